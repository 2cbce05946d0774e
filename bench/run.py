"""The state of one benchmark run, and how the command line makes it."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from steering.cli.options import parse_layers
from steering.errors import DataError
from steering.journal import FILE_NAME, load_rows
from steering.methods import create_method, methods, needs_losses, needs_sae
from steering.methods.stored import load_fitting
from steering.metrics import metrics
from steering.models.checks import check_layers
from steering.models.language_model import LanguageModel
from steering.models.loading import layer_count
from steering.profile_files import load_profile
from steering.profiles import Profile, Setting
from steering.results import Row, new_run_name
from steering.sae.library import SaeLibrary, open_library
from steering.sweeps.cells import Cell, Outcome, measurable, plans_of, with_controls
from steering.sweeps.earlier import Earlier
from steering.sweeps.plans import at_equal_norm, at_multiplier, without_foreign_saes
from steering.sweeps.records import run_fields
from steering.sweeps.sae_quality import SaeOutcome
from steering.sweeps.stored_vectors import concept_difference, model_difference, with_vectors
from steering.verdicts.baselines import Baseline, read_baseline
from steering.verdicts.claims import check_claims, waiver, without_claims
from steering.verdicts.comparability import obstacles

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


@dataclass
class Run:
    """State of one benchmark run, kept on pytest's configuration.

    Attributes:
        setting: What is measured.
        layers: Blocks that are steered.
        saes: Where SAEs are read.
        results: Directory of the journal.
        waiver: Why claims are not tested, or an empty string.
        notes: What was left out, and what has to be known of vectors from files.
        name: Identifies the run in its rows; processes of one run share it.
        vectors: Files of vectors that were given.
        baseline: What the gate compares with.
        resumes: Whether what the journal holds is not measured again.
        shard: Which part is run; None for all.
        cells: Cells selected.
        sae_layers: Layers of the SAEs selected.
        deselected: Cells (method, layer) that were left out on purpose.
        outcomes: What was measured, or found in the journal.
        sae_outcomes: The same of SAEs.
        rows: Rows that other processes of the run sent.
        verdicts: (method, layer) -> what became of the claim.
    """

    setting: Setting
    layers: tuple[int, ...]
    saes: SaeLibrary | None
    results: Path
    waiver: str
    notes: list[str]
    name: str
    vectors: tuple[Path, ...] = ()
    baseline: Baseline | None = None
    resumes: bool = False
    shard: Shard | None = None
    cells: list[Cell] = field(default_factory=list)
    sae_layers: list[int] = field(default_factory=list)
    deselected: set[tuple[str, int]] = field(default_factory=set)
    outcomes: list[Outcome] = field(default_factory=list)
    sae_outcomes: list[SaeOutcome] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    verdicts: dict[tuple[str, int], str] = field(default_factory=dict)

    def take_selection(self, cells: list[list[Any]], sae_layers: list[int], deselected: list[list[Any]]) -> None:
        """Note what another process of the run selected."""
        self.cells = [Cell(*cell) for cell in cells]
        self.sae_layers = sae_layers
        self.deselected |= {(method, layer) for method, layer in deselected}

    @property
    def layers_with_sae(self) -> list[int]:
        """Those of the layers that have an SAE."""
        return [layer for layer in self.layers if self.saes is not None and layer in self.saes.layers]

    @property
    def all_cells(self) -> list[Cell]:
        """One cell for each method at each layer, ordered by layer; no layer without the SAE that a method reads."""
        profile = self.setting.profile
        cells = [
            Cell(plan.name, layer, plan.multiplier)
            for layer in self.layers
            for plan in profile.methods
            if plan.layers is None or layer in plan.layers
        ]
        return measurable(profile, cells, self.layers_with_sae)

    @property
    def all_rows(self) -> list[Row]:
        """Rows of all outcomes, each once."""
        own = [row for outcome in (*self.outcomes, *self.sae_outcomes) for row in outcome.rows]
        return list({row.key: row for row in (*own, *self.rows)}.values())

    @property
    def gates_something(self) -> bool:
        """Whether a cell of the baseline was selected: to compare nothing is to pass always. A shard may have none."""
        held = [] if self.baseline is None else [cell.key for cell in self.baseline.cells]
        return not held or self.shard is not None or not self.deselected.issuperset(held)

    def obstacles(self, model: LanguageModel) -> list[str]:
        """Why nothing that is measured on a model could be compared with the baseline; none without a baseline."""
        if self.baseline is None:
            return []
        return obstacles(self.baseline, Row(**run_fields(self.setting, model, self.name), metric=""))

    def check_training(self) -> None:
        """Refuse methods that learn from documents which the run uses for something else, if they are selected.

        Raises:
            DataError: One of them is.
        """
        profile = self.setting.profile
        plans = [plan for cell in with_controls(profile, self.cells) for plan in plans_of(profile, cell)]
        if any(needs_losses(methods[plan.method]) for plan in plans):
            _ = self.setting.training_documents

    def check_vectors(self, model: LanguageModel) -> None:
        """Refuse vectors from files that do not fit a model, and note those that were made on another."""
        selected = {cell.method for cell in with_controls(self.setting.profile, self.cells)}
        for file in self.vectors:
            if file.stem in selected:
                vector = load_fitting(file, model.d_model, model.name)
                if differing := model_difference(vector, model):
                    self.notes.append(f"{file.name} was {differing}.")

    def earlier(self) -> Earlier:
        """What the journal holds already, where the run goes on from there."""
        return Earlier(self.kept_rows() if self.resumes else ())

    def kept_rows(self) -> list[Row]:
        """What earlier runs left in the results directory."""
        there = os.path.isfile(self.results / FILE_NAME)  # noqa: PTH113 - Path's raises where the name is too long
        return load_rows(self.results) if there else []


def resolve(config: pytest.Config) -> Run:
    """Make the run that the command line asks for; a mistake is found before anything is computed.

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
    for plan in profile.methods:
        if needs_sae(create_method(plan.method, plan.parameters)) and not profile.saes:
            raise DataError(f"method {plan.name!r} reads SAEs: name some with 'saes' in the profile or with --saes")
        for name in plan.metrics or ():
            _ = metrics[name]
    reason = waiver(profile, declared)
    setting = Setting.load(without_claims(profile) if reason else profile)
    layers = _layers(setting, declared)
    for file in vectors:
        own = profile.plan(file.stem).layers or ()
        if not set(own) <= set(layers):
            raise DataError(f"--vector {file}: it is for layer {own[0]}; give that with --layers")
    library = open_library(profile.saes, profile.descriptions) if profile.saes else None
    if library is not None:
        check_claims(setting.profile, library)
    notes = [told for told in (note, *(concept_difference(file, setting.concept) for file in vectors)) if told]
    run = Run(setting, layers, library, Path(option("results")), reason, notes, _name(config), tuple(vectors))
    run.baseline = read_baseline(Path(option("gate"))) if option("gate") else None
    if run.baseline is not None and option("layers"):
        run.deselected = {cell.key for cell in run.baseline.cells if cell.layer not in layers}
    run.resumes, run.shard = option("resume"), _shard(option("shard"))
    run.kept_rows()  # a damaged journal, which nothing could read later, is found now
    return run


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
