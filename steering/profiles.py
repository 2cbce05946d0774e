"""Profiles: what one benchmark runs, read from TOML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from steering.concepts import Concept, Side, load_concept
from steering.errors import DataError, UnknownNameError
from steering.files import read_toml
from steering.neutral import NeutralSet, load_neutral

_KINDS = {str: "string", int: "whole number", float: "number", dict: "table"}
_NEUTRAL_TOKENS = ("neutral_prompt_tokens", "neutral_continuation_tokens")


@dataclass(frozen=True)
class MethodPlan:
    """How a profile runs one construction method.

    Attributes:
        name: What the profile and its results call this plan.
        multiplier: Dose of its vectors.
        method: A registered method; by default the one of the plan's name.
        parameters: Of the method.
        control: Another plan of the profile, which shows what its vectors do without their meaning.
        claimed_layers: Layers at which the profile claims that it steers: P(success) above the unsteered run and above
            the control, neutral loss change under the bound. Elsewhere results are recorded without a claim.
        norm_of: Another plan, to the norm of whose vector each vector is scaled before the multiplier.
        layers: Of the profile's layers, those that the plan is run at; None means all.
    """

    name: str
    multiplier: float
    method: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    control: str = ""
    claimed_layers: tuple[int, ...] = ()
    norm_of: str = ""
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Fill in the method; refuse a dose that is not a number."""
        if not self.method:
            object.__setattr__(self, "method", self.name)
        if not math.isfinite(self.multiplier):
            raise DataError(f"method {self.name!r}: multiplier is {self.multiplier!r}; it must be finite")


@dataclass(frozen=True)
class SaeBounds:
    """What a profile claims of its sparse autoencoders; None claims nothing.

    Attributes:
        variance_explained: At least.
        loss_recovered: At least.
        l0: At most, features per token.
    """

    variance_explained: float | None = None
    loss_recovered: float | None = None
    l0: float | None = None


@dataclass(frozen=True)
class Profile:
    """What one benchmark runs.

    Attributes:
        name: Of the profile.
        description: One or two sentences.
        model: As `LanguageModel.load` takes it.
        concept: As `load_concept` takes it.
        neutral: As `load_neutral` takes it.
        methods: The construction methods, in the order in which results show them.
        saes: As `open_library` takes it; empty where no method needs any.
        descriptions: A file that describes the SAEs' features, instead of the one beside each.
        sae_bounds: What is claimed of the SAEs' quality.
        toward: Side of the concept to steer towards.
        layers: Blocks to steer at; None means all.
        rollouts: Sampled completions of each configuration.
        new_tokens: Length of a completion.
        temperature: Of sampling.
        top_p: Of sampling.
        neutral_documents: How many neutral documents to use.
        neutral_prompt_tokens: First tokens of a document, which are steered.
        neutral_continuation_tokens: Tokens after them, which are scored.
        seed: Of sampling.
        alpha: Level of the test of a claim.
        neutral_bound: Bound of the neutral loss change where a claim is made, nats per token.
    """

    name: str
    description: str
    model: str
    concept: str
    neutral: str
    methods: tuple[MethodPlan, ...]
    saes: str = ""
    descriptions: str = ""
    sae_bounds: SaeBounds = field(default_factory=SaeBounds)
    toward: Side = "positive"
    layers: tuple[int, ...] | None = None
    rollouts: int = 200
    new_tokens: int = 40
    temperature: float = 1.0
    top_p: float = 0.8
    neutral_documents: int = 256
    neutral_prompt_tokens: int = 32
    neutral_continuation_tokens: int = 64
    seed: int = 0
    alpha: float = 0.01
    neutral_bound: float = 0.1

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense; the message names the key."""
        for key in ("name", "model", "concept", "neutral"):
            self._require(key, bool(getattr(self, key).strip()), "a name or a path")
        for key in ("rollouts", "new_tokens", "neutral_documents", *_NEUTRAL_TOKENS):
            self._require(key, getattr(self, key) >= 1, "at least 1")
        self._require("temperature", 0 < self.temperature < math.inf, "finite and above 0")
        self._require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        self._require("alpha", 0 < self.alpha < 1, "between 0 and 1")
        self._require("neutral_bound", 0 < self.neutral_bound < math.inf, "finite and above 0")
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("toward", self.toward in get_args(Side), "'positive' or 'negative'")
        self._require("methods", bool(self.methods), "at least one method")
        self._require("layers", self.layers != (), "'all' or a list of block numbers from 0")
        for plan in self.methods:
            for other in filter(None, (plan.control, plan.norm_of)):
                self.plan(other)

    def _require(self, key: str, holds: bool, right: str) -> None:
        if not holds:
            raise DataError(f"profile {self.name!r}: {key} is {getattr(self, key)!r}; it must be {right}")

    @property
    def measurement(self) -> dict[str, Any]:
        """The settings that decide what a metric value means, for results."""
        keys = ("rollouts", "new_tokens", "temperature", "top_p", *_NEUTRAL_TOKENS)
        return {key: getattr(self, key) for key in keys} | {
            "steered_positions": "prompt",
            "first_continuation_token": "scored",
        }

    def plan(self, method: str) -> MethodPlan:
        """Return the plan of one of the profile's methods."""
        for plan in self.methods:
            if plan.name == method:
                return plan
        raise UnknownNameError("method of this profile", method, (plan.name for plan in self.methods))


@dataclass(frozen=True)
class Setting:
    """A profile with the data that it names, loaded."""

    profile: Profile
    concept: Concept
    neutral: NeutralSet

    @classmethod
    def load(cls, profile: Profile) -> Setting:
        """Load concept and neutral documents.

        Raises:
            UnknownNameError: One of them does not exist.
            DataError: One of them is malformed.
        """
        concept = load_concept(profile.concept, profile.toward)
        return cls(profile, concept, load_neutral(profile.neutral, profile.neutral_documents))

    @property
    def data_hash(self) -> str:
        """SHA-256 of all texts that the run uses."""
        return hashlib.sha256(json.dumps([self.concept.hash, self.neutral.hash]).encode()).hexdigest()


def builtin_profiles() -> list[str]:
    """Names of the profiles that ship with the package."""
    return sorted(path.stem for path in _builtin_root().glob("*.toml"))


def load_profile(reference: str) -> Profile:
    """Load a profile by the name of a built-in one or by path.

    Raises:
        UnknownNameError: There is no such profile, or the file has a key that profiles do not have.
        DataError: The file is malformed or a value makes no sense.
    """
    if reference in builtin_profiles():
        path = _builtin_root() / f"{reference}.toml"
    elif os.path.isfile(reference):  # noqa: PTH113 - False, not an error, for what cannot be a path
        path = Path(reference)
    else:
        raise UnknownNameError("profile", reference, builtin_profiles(), "Or give the path of a TOML file.")
    return _profile(path, read_toml(path))


def _builtin_root() -> Path:
    return Path(str(resources.files("steering"))) / "data" / "profiles"


def _profile(path: Path, table: dict[str, Any]) -> Profile:
    known = {key.name for key in dataclasses.fields(Profile)}
    for key in table:
        if key not in known:
            raise UnknownNameError(f"key in {path}", key, known)
    required = {"description", "model", "concept", "neutral", "methods"}
    if missing := sorted(required - set(table)):
        raise DataError(f"{path}: missing {', '.join(missing)}")
    values = {"name": path.stem} | table
    layers = table.get("layers", "all")
    values["layers"] = None if layers == "all" else _layers(path, "layers", layers, "'all' or ")
    if not isinstance(table["methods"], dict):
        raise DataError(f"{path}: methods must be tables such as [methods.mean_difference]")
    if "sae_bounds" in table:
        values["sae_bounds"] = _sae_bounds(path, table["sae_bounds"])
    values["methods"] = tuple(_method_plan(path, name, entry) for name, entry in table["methods"].items())
    for key, value in values.items():
        default = getattr(Profile, key, "")
        if key not in ("methods", "layers", "sae_bounds") and not _same_kind(value, default):
            raise DataError(f"{path}: {key} is {value!r}; it must be a {_KINDS[type(default)]}")
    profile = Profile(**values)
    for plan in profile.methods:
        if profile.layers is not None and (idle := set(plan.claimed_layers) - set(profile.layers)):
            raise DataError(
                f"{path}: [methods.{plan.name}] claims layers {sorted(idle)}, which the profile does not run"
            )
    return profile


def _layers(path: Path, key: str, value: Any, or_else: str = "") -> tuple[int, ...]:
    if isinstance(value, list) and all(type(layer) is int and layer >= 0 for layer in value):
        return tuple(sorted(set(value)))
    raise DataError(f"{path}: {key} is {value!r}; it must be {or_else}a list of block numbers from 0")


def _sae_bounds(path: Path, entry: Any) -> SaeBounds:
    known = {key.name for key in dataclasses.fields(SaeBounds)}
    if not isinstance(entry, dict):
        raise DataError(f"{path}: sae_bounds is {entry!r}; it must be a table")
    for key, value in entry.items():
        if key not in known:
            raise UnknownNameError(f"key in [sae_bounds] of {path}", key, known)
        if not _same_kind(value, 1.0):
            raise DataError(f"{path}: {key} in [sae_bounds] is {value!r}; it must be a number")
    return SaeBounds(**entry)


def _method_plan(path: Path, name: str, entry: Any) -> MethodPlan:
    known = {key.name for key in dataclasses.fields(MethodPlan)} - {"name"}
    if not isinstance(entry, dict) or not _same_kind(entry.get("multiplier"), 1.0):
        raise DataError(f"{path}: [methods.{name}] must be a table with a number 'multiplier'")
    for key in entry:
        if key not in known:
            raise UnknownNameError(f"key in [methods.{name}] of {path}", key, known)
    for key, default in (("parameters", {}), ("method", ""), ("control", ""), ("norm_of", "")):
        if key in entry and not _same_kind(entry[key], default):
            raise DataError(
                f"{path}: {key} of [methods.{name}] is {entry[key]!r}; it must be a {_KINDS[type(default)]}"
            )
    values = entry | {"multiplier": float(entry["multiplier"])}
    for key in {"layers", "claimed_layers"} & set(entry):
        values[key] = _layers(path, f"[methods.{name}] {key}", entry[key])
    return MethodPlan(name, **values)


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)
