"""Fixtures and hooks of the benchmark."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steering import progress
from steering.activation_cache import ActivationCache
from steering.cells import Cell, Outcome
from steering.checks import check_layers
from steering.claims import Verdict, check_claims, judge, judge_sae, waiver, without_claims
from steering.errors import DataError, SteeringError
from steering.loading import layer_count
from steering.methods import create_method, methods, needs_sae
from steering.model import LanguageModel
from steering.plans import at_equal_norm, without_foreign_saes
from steering.profile_files import load_profile
from steering.profiles import Profile, Setting
from steering.results import FILE_NAME, SAE, Journal
from steering.sae_library import SaeLibrary, open_library
from steering.sae_quality import SaeOutcome, SaeQuality
from steering.sweep import Sweep
from steering.tables import feature_summary, sae_summary, summary, to_text


@dataclass
class Run:
    """State of one benchmark run, kept on pytest's configuration."""

    setting: Setting
    layers: tuple[int, ...]
    saes: SaeLibrary | None
    results: Path
    waiver: str
    note: str
    name: str = field(default_factory=lambda: f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
    cells: list[Cell] = field(default_factory=list)
    sae_layers: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    sae_outcomes: list[SaeOutcome] = field(default_factory=list)
    verdicts: dict[tuple[str, int], str] = field(default_factory=dict)


collect_ignore = ["test_speed.py", "test_growth.py"]  # run by name only: they say nothing of vectors
_RUN = pytest.StashKey[Run]()
# Where output is no terminal, lines are as wide as the table needs.
_WIDTH = 200


def pytest_configure(config: pytest.Config) -> None:
    """Resolve the options before anything is collected, so that a mistake costs no time."""
    config.addinivalue_line("markers", "layer(index): the block that a benchmark test steers; -m 'layer(index=8)'")
    config.addinivalue_line("markers", "method(name): the construction method of a benchmark test")
    if any(getattr(config.option, name, False) for name in ("help", "version", "markers", "showfixtures")):
        return
    if _timing(config) and "--benchmark-columns" not in " ".join(config.invocation_params.args):
        config.option.benchmark_columns = ["mean"]  # one round a cell: the other statistics say nothing
    try:
        config.stash[_RUN] = _resolve(config)
    except SteeringError as error:
        raise pytest.UsageError(str(error)) from None


def _resolve(config: pytest.Config) -> Run:
    declared = load_profile(config.getoption("profile"))
    profile, note = without_foreign_saes(_overridden(declared, config), declared)
    for plan in profile.methods:
        if needs_sae(create_method(plan.method, plan.parameters)) and not profile.saes:
            raise DataError(f"method {plan.name!r} reads SAEs: name some with 'saes' in the profile or with --saes")
    reason = waiver(profile, declared)
    setting = Setting.load(without_claims(profile) if reason else profile)
    blocks = layer_count(profile.model)
    layers = tuple(range(blocks)) if profile.layers is None else profile.layers
    named = {layer for plan in setting.profile.methods for layer in plan.claimed_layers}
    if profile.model == declared.model:  # another may have fewer blocks, and is steered at those that it has
        named |= {layer for plan in profile.methods for layer in plan.layers or ()}
    check_layers([*layers, *sorted(named)], blocks, profile.model)
    library = open_library(profile.saes, profile.descriptions) if profile.saes else None
    if library is not None:
        check_claims(setting.profile, library)
    return Run(setting, layers, library, Path(config.getoption("results")), reason, note)


def _timing(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin("benchmark")


def _overridden(profile: Profile, config: pytest.Config) -> Profile:
    """Apply the command line to a profile."""
    keys = ("model", "concept", "toward", "neutral", "saes", "descriptions", "rollouts", "seed")
    given = {key: value for key in keys if (value := config.getoption(key)) is not None}
    if layers := config.getoption("layers"):
        try:
            given["layers"] = tuple(sorted({int(layer) for layer in layers.split(",")}))
        except ValueError:
            raise pytest.UsageError(f"--layers {layers!r}: give block numbers with commas, for instance 8,20") from None
    if (multiplier := config.getoption("multiplier")) is not None:
        given["methods"] = tuple(dataclasses.replace(plan, multiplier=multiplier) for plan in profile.methods)
    changed = dataclasses.replace(profile, **given)
    return at_equal_norm(changed) if config.getoption("equal_norm") else changed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each method at each layer, ordered by layer, and one for each SAE."""
    run = metafunc.config.stash[_RUN]
    with_sae = _layers_with_sae(run)
    if "cell" in metafunc.fixturenames:
        cells = [
            Cell(plan.name, layer, plan.multiplier)
            for layer in run.layers
            for plan in run.setting.profile.methods
            if plan.layers is None or layer in plan.layers
            if layer in with_sae or not needs_sae(methods[plan.method])
        ]
        marked = [
            pytest.param(cell, marks=[pytest.mark.layer(index=cell.layer), pytest.mark.method(name=cell.method)])
            for cell in cells
        ]
        metafunc.parametrize("cell", marked, ids=[cell.id for cell in cells])
    if "sae_layer" in metafunc.fixturenames:
        marked = [pytest.param(layer, marks=pytest.mark.layer(index=layer)) for layer in with_sae]
        metafunc.parametrize("sae_layer", marked, ids=[f"layer{layer}" for layer in with_sae])


def _layers_with_sae(run: Run) -> list[int]:
    return [layer for layer in run.layers if run.saes is not None and layer in run.saes.layers]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Show pytest-benchmark which tests are benchmarks: --benchmark-only and --benchmark-skip look at the fixtures.

    Where there is no SAE, or no plan that applies, pytest makes one test without a parameter, which is left out.
    """
    for name, kind in (("cell", Cell), ("sae_layer", int)):
        items[:] = [item for item in items if name not in _fixtures(item) or isinstance(_parameter(item, name), kind)]
    if _timing(config):
        for item in items:
            if {"cell", "sae_layer"} & set(_fixtures(item)):
                item.fixturenames.append("benchmark")


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def _parameter(item: pytest.Item, name: str) -> Any:
    return item.callspec.params.get(name) if hasattr(item, "callspec") else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cells were selected: only their layers are captured. Check that results can be written."""
    run = session.config.stash[_RUN]
    run.cells = [cell for item in session.items if (cell := _parameter(item, "cell")) is not None]
    run.sae_layers = [layer for item in session.items if (layer := _parameter(item, "sae_layer")) is not None]
    if (run.cells or run.sae_layers) and not session.config.option.collectonly:
        try:
            Journal(run.results)
        except SteeringError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """The model, loaded."""
    config = request.config
    reference = config.stash[_RUN].setting.profile.model
    with _ending_cleanly(), _uncaptured(config):
        progress.for_terminal().note(f"loading model {reference} …")
        return LanguageModel.load(reference, config.getoption("dtype"), config.getoption("device"))


@pytest.fixture(scope="session")
def sweep(request: pytest.FixtureRequest, model: LanguageModel) -> Sweep:
    """The measurements that all cells share, made."""
    config = request.config
    run = config.stash[_RUN]
    with _ending_cleanly(), _uncaptured(config):
        options = {"progress": progress.for_terminal(), "cache": ActivationCache(fresh=config.getoption("fresh"))}
        sweep = Sweep(run.setting, model, Journal(run.results), run.cells, run=run.name, saes=run.saes, **options)
        run.outcomes = sweep.outcomes
        _ = sweep.unsteered, sweep.activations
    return sweep


@pytest.fixture(scope="session")
def sae_quality(request: pytest.FixtureRequest, model: LanguageModel) -> SaeQuality:
    """What measures SAEs."""
    config = request.config
    run = config.stash[_RUN]
    with _ending_cleanly():
        journal = Journal(run.results)
    return SaeQuality(run.setting, model, run.saes, journal, run=run.name, progress=progress.for_terminal())


@pytest.fixture
def verdict_on(request: pytest.FixtureRequest) -> Callable[[Outcome | SaeOutcome], Verdict]:
    """Hold an outcome against its profile's claim, and remember the verdict for the table."""
    run = request.config.stash[_RUN]

    def decide(outcome: Outcome | SaeOutcome) -> Verdict:
        if isinstance(outcome, SaeOutcome):
            run.sae_outcomes.append(outcome)
            verdict, key = judge_sae(run.setting.profile, outcome), (SAE, outcome.layer)
        else:
            verdict, key = judge(run.setting.profile, outcome), (outcome.cell.method, outcome.cell.layer)
        run.verdicts[key] = verdict.state
        return verdict

    return decide


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Measure something of one layer, timed by pytest-benchmark where that plugin is on."""
    config = request.config
    benchmark = request.getfixturevalue("benchmark") if _timing(config) else None

    def measure(work: Callable[[Any], Any], argument: Any, layer: int, **extra: float) -> Any:
        with _ending_cleanly(), _uncaptured(config):
            if benchmark is None:
                return work(argument)
            benchmark.group = f"layer {layer}"  # before the round, whose record takes a copy
            outcome = benchmark.pedantic(work, args=(argument,), rounds=1, iterations=1)
        benchmark.extra_info.update(_extra_info(outcome) | extra)
        return outcome

    return measure


def _extra_info(outcome: Outcome | SaeOutcome) -> dict[str, object]:
    """Metrics beside the timings in pytest-benchmark's JSON."""
    values = {row.metric: {"value": row.value, "low": row.low, "high": row.high, "n": row.n} for row in outcome.rows}
    seconds = ("construction_seconds", "evaluation_seconds")
    return {key: getattr(outcome, key) for key in seconds if hasattr(outcome, key)} | {"metrics": values}


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """End the run with one message where going on makes no sense; rows written so far stay."""
    try:
        yield
    except SteeringError as error:
        pytest.exit(str(error), returncode=2)


@contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """Let progress reach the terminal while pytest captures output."""
    manager = config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        yield


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured, what the profile claims of it, and where it is kept."""
    run = config.stash.get(_RUN, None)
    if run is None or not (run.outcomes or run.sae_outcomes):
        return
    rows = [row for outcome in (*run.outcomes, *run.sae_outcomes) for row in outcome.rows]
    terminalreporter.section("steering")
    width = shutil.get_terminal_size().columns if terminalreporter.isatty else _WIDTH
    controls = {plan.control for plan in run.setting.profile.methods}
    features = feature_summary([row for row in rows if row.method not in controls])
    for table in (summary(rows, run.verdicts), features, sae_summary(rows, run.verdicts)):
        if len(table) > 1:
            terminalreporter.write(to_text(table, width))
    for line in _remarks(run):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"Results: {run.results / FILE_NAME}")


def _remarks(run: Run) -> Iterator[str]:
    """What has to be said under the tables."""
    if run.outcomes:
        yield (
            "P(success): share of rollouts with a keyword. p: one-sided, paired with the unsteered rollouts ('p "
            "control': the control's), not adjusted for the number of cells. norm: of what is added. "
            "Δ loss: steered minus unsteered, nats per token."
        )
    if run.note:
        yield run.note
    if run.waiver:
        yield f"No claim was tested: {run.waiver}."
    elif "no claim" in run.verdicts.values():
        yield f"no claim: profile {run.setting.profile.name!r} claims nothing there; the values are recorded."
    selected = len(run.cells) + len(run.sae_layers)
    if len(run.verdicts) < selected:
        yield f"Not finished: {len(run.verdicts)} of {selected} tests were measured."
