"""Profiles: what one benchmark runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, get_args

from steering.concepts import DEVELOPMENT, TEST, Side, Split
from steering.errors import DataError, UnknownNameError
from steering.positions import Positions
from steering.results import LARGEST, SAE, UNSTEERED

_CLAIMED_METRICS = ("rollouts", "loss_neutral")
# Steps of √2, from what hardly shows to what no text survives.
_DOSES = tuple(round(2 ** (step / 2), 2) for step in range(-4, 13))
_NEUTRAL_TOKENS = ("neutral_prompt_tokens", "neutral_continuation_tokens")


def _set_blocks(owner: object, label: str, key: str) -> None:
    """Put a frozen object's list of blocks into order, each block once; refuse those below 0, and no layers."""
    blocks = getattr(owner, key)
    if key == "layers" and blocks == ():
        raise DataError(f"{label}: layers is empty; name at least one, or leave it out")
    if blocks and min(blocks) < 0:
        raise DataError(f"{label}: {key} holds {min(blocks)}; blocks are counted from 0")
    object.__setattr__(owner, key, blocks and tuple(sorted(set(blocks))))


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
        is_control: Whether its vectors are there for comparison only; what another plan names as its control is one.
        metrics: Of the registered metrics, those that its cells are measured by; None means all.
    """

    name: str
    multiplier: float
    method: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    control: str = ""
    claimed_layers: tuple[int, ...] = ()
    norm_of: str = ""
    layers: tuple[int, ...] | None = None
    is_control: bool = False
    metrics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Fill in the method; refuse a name that means something else, a dose that is no number, and idle claims."""
        if not self.name.strip():
            raise DataError(f"method {self.name!r}: its name is blank; name it as in [methods.mean_difference]")
        if self.name in (UNSTEERED, SAE, "layer", "run"):  # the last two are columns of a pivot table
            raise DataError(f"method {self.name!r}: results call something else by this name; choose another")
        if not self.method:
            object.__setattr__(self, "method", self.name)
        if not abs(self.multiplier) <= LARGEST:
            raise DataError(
                f"method {self.name!r}: multiplier is {self.multiplier!r}; it must be finite, {LARGEST:g} at most"
            )
        if self.claimed_layers and self.metrics is not None and not set(_CLAIMED_METRICS) <= set(self.metrics):
            needed = " and ".join(map(repr, _CLAIMED_METRICS))
            raise DataError(f"method {self.name!r}: its claims need the metrics {needed}; add them or leave out claims")
        for key in ("layers", "claimed_layers"):
            _set_blocks(self, f"method {self.name!r}", key)
        if self.layers is not None and (idle := set(self.claimed_layers) - set(self.layers)):
            raise DataError(
                f"method {self.name!r}: claimed_layers {sorted(idle)} are not among its layers, {list(self.layers)}"
            )


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

    def __post_init__(self) -> None:
        """Refuse bounds that nothing, or anything, would keep."""
        for key, value in vars(self).items():
            if value is not None and not math.isfinite(value):
                raise DataError(f"sae_bounds: {key} is {value!r}; it must be finite")


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
        neutral_prompt_tokens: First tokens of a document: its prompt, which is not scored.
        neutral_continuation_tokens: Tokens after them, which are scored.
        steered_positions: "prompt", or "all": also those of what follows it, whether scored or generated.
        split: "test", or "development" to choose layers and doses by: other prompts, documents and random numbers.
        development_documents: How many of the neutral documents after those of the test make the development split.
        neutral_budget: Nats per token; each cell gets the largest of the `doses` whose neutral loss change on the
            development documents stays within it, instead of its plan's multiplier. None keeps the multipliers.
        doses: Multipliers to choose among, rising.
        seed: Of sampling.
        alpha: Level of the tests of all claims together.
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
    steered_positions: Positions = "prompt"
    split: Split = "test"
    development_documents: int = 64
    neutral_budget: float | None = None
    doses: tuple[float, ...] = _DOSES
    seed: int = 0
    alpha: float = 0.01
    neutral_bound: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values that make no sense; the message names the key."""
        for key in ("name", "model", "concept", "neutral"):
            self._require(key, bool(getattr(self, key).strip()), "a name or a path")
        for key in ("rollouts", "new_tokens", *_NEUTRAL_TOKENS):
            self._require(key, getattr(self, key) >= 1, "at least 1")
        for key in ("neutral_documents", "development_documents"):
            self._require(key, getattr(self, key) >= 2, "at least 2: one has no interval")
        self._require("temperature", 1e-6 <= self.temperature < math.inf, "finite and at least 0.000001")
        self._require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        self._require("alpha", 0 < self.alpha < 1, "between 0 and 1")
        self._require("neutral_bound", 0 < self.neutral_bound < math.inf, "finite and above 0")
        self._require("seed", 0 <= self.seed < 2**63, "0 or more, and less than 2^63")
        budget = self.neutral_budget
        self._require("neutral_budget", budget is None or 0 < budget <= LARGEST, f"above 0 and at most {LARGEST:g}")
        rising = all(low < high for low, high in pairwise((0.0, *self.doses, math.inf)))
        allowed = bool(self.doses) and rising and self.doses[-1] <= LARGEST
        self._require("doses", allowed, f"numbers above 0, rising, and at most {LARGEST:g}")
        for key, kind in (("split", Split), ("steered_positions", Positions), ("toward", Side)):
            self._require(key, getattr(self, key) in get_args(kind), " or ".join(map(repr, get_args(kind))))
        self._require("methods", bool(self.methods), "at least one method")
        _set_blocks(self, f"profile {self.name!r}", "layers")
        for plan in self.methods:
            for key in ("control", "norm_of"):
                self._refuse_cycle(plan, key)

    def _refuse_cycle(self, plan: MethodPlan, key: str) -> None:
        """Follow a plan's references to others; refuse one that leads back, or to no plan at all."""
        names, known = [plan.name], {other.name for other in self.methods}
        while following := getattr(self.plan(names[-1]), key):
            if following not in known:
                where = f"It is named by method {names[-1]!r} of profile {self.name!r}."
                raise UnknownNameError(key, following, known, where)
            names.append(following)
            if names.index(following) < len(names) - 1:
                cycle = " -> ".join(map(repr, names[names.index(following) :]))
                raise DataError(f"profile {self.name!r}: {key} goes in a circle: {cycle}; leave it out of one of them")

    def _require(self, key: str, holds: bool, right: str) -> None:
        if not holds:
            raise DataError(f"profile {self.name!r}: {key} is {getattr(self, key)!r}; it must be {right}")

    @property
    def measurement(self) -> dict[str, Any]:
        """The settings that decide what a metric value means, for results."""
        keys = ("rollouts", "new_tokens", "temperature", "top_p", *_NEUTRAL_TOKENS, "steered_positions")
        split = {} if self.split == TEST else {"split": self.split}
        return {key: getattr(self, key) for key in keys} | {"first_continuation_token": "scored"} | split

    @property
    def neutral_lengths(self) -> tuple[int, int]:
        """Tokens of a neutral document that are its prompt, and those after them that are scored."""
        return self.neutral_prompt_tokens, self.neutral_continuation_tokens

    @property
    def stream(self) -> int:
        """Which random numbers of the seed rollouts draw: the splits have nothing in common."""
        return (TEST, DEVELOPMENT).index(self.split)

    @property
    def controls(self) -> frozenset[str]:
        """Names of the plans that are there for comparison only."""
        named = {plan.control for plan in self.methods if plan.control}
        return frozenset(named | {plan.name for plan in self.methods if plan.is_control})

    def plan(self, method: str) -> MethodPlan:
        """Return the plan of one of the profile's methods."""
        for plan in self.methods:
            if plan.name == method:
                return plan
        raise UnknownNameError("method of this profile", method, (plan.name for plan in self.methods))
