"""What the command line asks of a benchmark run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from steering.cli.options import parse_layers
from steering.concepts import TEST
from steering.errors import DataError
from steering.journal import FILE_NAME, load_rows
from steering.models.checks import check_layers
from steering.models.loading import layer_count
from steering.paths import is_file
from steering.profile_files import load_profile
from steering.profiles import Profile
from steering.results import Row, new_run_name
from steering.sae.library import SaeLibrary, layers_with_sae, open_library
from steering.settings import Setting
from steering.sweeps.cells import Cell, measurable
from steering.sweeps.earlier import Earlier
from steering.sweeps.plans import at_equal_norm, at_multiplier, check_plans, without_foreign_saes
from steering.sweeps.stored_vectors import concept_difference, with_vectors
from steering.verdicts.baselines import Baseline, read_baseline
from steering.verdicts.claims import check_claims, waiver, without_claims

T = TypeVar("T")
#: Options that take the place of the profile's keys of their names.
_OVERRIDING = (
    *("model", "concept", "toward", "neutral", "saes", "descriptions"),
    *("rollouts", "seed", "split", "steered_positions"),
)
_SHARD = re.compile(r"([1-9]\d*)/([1-9]\d*)")


@dataclass(frozen=True)
class Shard:
    """One of several parts of the selected tests, each of which another process or machine runs.

    Attributes:
        number: Which, from 1.
        count: Of how many.
    """

    number: int
    count: int

    def part(self, items: Sequence[T], group: Callable[[T], Hashable]) -> list[T]:
        """The items of this part: whole groups, and neighbours, since cells of one layer share what is below it."""
        groups = list(dict.fromkeys(map(group, items)))
        own = set(groups[(self.number - 1) * len(groups) // self.count : self.number * len(groups) // self.count])
        return [item for item in items if group(item) in own]


@dataclass(frozen=True)
class Request:
    """What one benchmark run is to do, before pytest selects its tests.

    Attributes:
        setting: What is measured.
        layers: Blocks that are steered.
        saes: Where SAEs are read; None where nothing reads any.
        results: Directory of the journal.
        name: Identifies the run in its rows; processes of one run share it.
        waiver: Why claims are not tested, or an empty string.
        notes: What was left out, and what has to be known of vectors from files.
        vectors: Files of vectors that were given.
        baseline: What the gate compares with; None without a gate.
        layers_were_chosen: Whether the command line chose the layers, so that the gate does not miss the others.
        resumes: Whether what the journal holds is not measured again.
        shard: Which part is run; None for all.
    """

    setting: Setting
    layers: tuple[int, ...]
    saes: SaeLibrary | None
    results: Path
    name: str
    waiver: str
    notes: tuple[str, ...]
    vectors: tuple[Path, ...]
    baseline: Baseline | None
    layers_were_chosen: bool
    resumes: bool
    shard: Shard | None

    @property
    def sae_layers(self) -> list[int]:
        """Those of the layers that have an SAE."""
        return layers_with_sae(self.saes, self.layers)

    @property
    def cells(self) -> list[Cell]:
        """One cell for each method at each layer, ordered by layer; no layer without the SAE that a method reads."""
        profile = self.setting.profile
        cells = [
            Cell(plan.name, layer, plan.multiplier)
            for layer in self.layers
            for plan in profile.methods
            if plan.layers is None or layer in plan.layers
        ]
        return measurable(profile, cells, self.sae_layers)

    def earlier(self) -> Earlier:
        """What the journal holds already, where the run goes on from there."""
        return Earlier(self.kept_rows() if self.resumes else ())

    def kept_rows(self) -> list[Row]:
        """What earlier runs left in the results directory."""
        return load_rows(self.results) if is_file(self.results / FILE_NAME) else []


def resolve(config: pytest.Config) -> Request:
    """Read the command line; a mistake is found before anything is computed.

    Raises:
        SteeringError: An option, or a file that it names, cannot be used.
    """
    option = config.getoption
    _refuse_empty(config)
    declared = load_profile(option("profile"))
    vectors = [Path(file) for file in option("vector") or ()]
    dosed = declared.neutral_budget or option("budget") or option("multiplier") is not None or option("equal_norm")
    declared = with_vectors(declared, vectors, 1.0 if dosed else None)  # whose size is then another
    profile, note = without_foreign_saes(_overridden(declared, config), declared)
    check_plans(profile)
    reason = waiver(profile, declared)
    setting = Setting.load(without_claims(profile) if reason else profile)
    layers = _layers(setting, declared)
    for file in vectors:
        own = profile.plan(file.stem).layers or ()
        check_layers(own, layer_count(profile.model), f"{profile.model}, for {file}")
        if not set(own) <= set(layers):
            raise DataError(f"--vector {file}: it is for layer {own[0]}; give that with --layers")
    library = open_library(profile.saes, profile.descriptions) if profile.saes else None
    if profile.descriptions and library is None and not is_file(profile.descriptions):
        raise DataError(f"--descriptions {profile.descriptions}: no such file")
    if library is not None:
        check_claims(setting.profile, library)
    request = Request(
        setting=setting,
        layers=layers,
        saes=library,
        results=Path(option("results")),
        name=_name(config),
        waiver=reason,
        notes=tuple(filter(None, (note, _shortfall(setting), *_other_concepts(vectors, setting)))),
        vectors=tuple(vectors),
        baseline=read_baseline(Path(option("gate"))) if option("gate") else None,
        layers_were_chosen=bool(option("layers")),
        resumes=option("resume"),
        shard=_shard(option("shard")),
    )
    request.kept_rows()  # a damaged journal, which nothing could read later, is found now
    return request


def _shortfall(setting: Setting) -> str:
    """What is missing of the neutral documents that were asked for, or an empty string."""
    sets = []
    if setting.profile.split == TEST:
        sets.append(("", setting.neutral, setting.profile.neutral_documents))
    if setting.development is not None:
        sets.append((" of the development split", setting.development, setting.profile.development_documents))
    return " ".join(
        f"{len(found.documents)} of {wanted} neutral documents{split} are there, and were used."
        for split, found, wanted in sets
        if len(found.documents) < wanted
    )


def _other_concepts(vectors: Sequence[Path], setting: Setting) -> Iterator[str]:
    return (concept_difference(file, setting.concept) for file in vectors)


def _refuse_empty(config: pytest.Config) -> None:
    """Refuse what a shell makes of a variable that is not set: a gate that compares nothing would pass."""
    for name in ("gate", "layers", "profile", "results", "concept", "model", "vector"):
        given = config.getoption(name)
        if given == "" or (isinstance(given, list) and "" in given):
            raise pytest.UsageError(f"--{name}: the value is empty; give one, or leave the option out")


def _layers(setting: Setting, declared: Profile) -> tuple[int, ...]:
    profile = setting.profile
    blocks = layer_count(profile.model)
    layers = tuple(range(blocks)) if profile.layers is None else profile.layers
    named = {layer for plan in profile.methods for layer in plan.claimed_layers}
    if profile.model == declared.model:  # another may have fewer blocks, and is steered at those that it has
        named |= {layer for plan in profile.methods for layer in plan.layers or ()}
    check_layers([*layers, *sorted(named)], blocks, profile.model)
    return layers


def _name(config: pytest.Config) -> str:
    """The run's name; a process of pytest-xdist is told it by the one that started it."""
    given = getattr(config, "workerinput", {})
    return str(given.get("steering_run") or new_run_name())


def _shard(text: str | None) -> Shard | None:
    if text is None:
        return None
    match = _SHARD.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise pytest.UsageError(f"--shard {text!r}: give a part and their number, for instance 2/4")
    return Shard(int(match[1]), int(match[2]))


def _overridden(profile: Profile, config: pytest.Config) -> Profile:
    """Apply the command line to a profile."""
    given: dict[str, Any] = {key: value for key in _OVERRIDING if (value := config.getoption(key)) is not None}
    if (budget := config.getoption("budget")) is not None:
        given["neutral_budget"] = budget
    if layers := config.getoption("layers"):
        given["layers"] = parse_layers(layers)
    changed = dataclasses.replace(profile, **given)
    if (multiplier := config.getoption("multiplier")) is not None:
        if budget is not None:
            raise pytest.UsageError(f"--multiplier {multiplier:g} and --budget {budget:g}: give one of them")
        changed = at_multiplier(dataclasses.replace(changed, neutral_budget=None), multiplier)
    return at_equal_norm(changed) if config.getoption("equal_norm") else changed
