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

import pytest

from steering import progress
from steering.checks import check_layers
from steering.claims import Verdict, judge, waiver, without_claims
from steering.errors import SteeringError
from steering.export import summary, to_text
from steering.loading import layer_count
from steering.methods import create_method
from steering.model import LanguageModel
from steering.profiles import Profile, Setting, load_profile
from steering.results import FILE_NAME, Journal
from steering.sweep import Cell, Outcome, Sweep


@dataclass
class Run:
    """State of one benchmark run, kept on pytest's configuration."""

    setting: Setting
    layers: tuple[int, ...]
    results: Path
    waiver: str
    cells: list[Cell] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: dict[tuple[str, int], str] = field(default_factory=dict)


_RUN = pytest.StashKey[Run]()
# Where output is no terminal, lines are as wide as the table needs.
_WIDTH = 160


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
    profile = _overridden(declared, config)
    for plan in profile.methods:
        create_method(plan.name, plan.parameters)
    reason = waiver(profile, declared)
    setting = Setting.load(without_claims(profile) if reason else profile)
    blocks = layer_count(profile.model)
    layers = tuple(range(blocks)) if profile.layers is None else profile.layers
    claimed = {layer for plan in setting.profile.methods for layer in plan.claimed_layers}
    check_layers([*layers, *sorted(claimed)], blocks, profile.model)
    return Run(setting, layers, Path(config.getoption("results")), reason)


def _timing(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin("benchmark")


def _overridden(profile: Profile, config: pytest.Config) -> Profile:
    """Apply the command line to a profile."""
    keys = ("model", "concept", "toward", "neutral", "rollouts", "seed")
    given = {key: value for key in keys if (value := config.getoption(key)) is not None}
    if layers := config.getoption("layers"):
        try:
            given["layers"] = tuple(sorted({int(layer) for layer in layers.split(",")}))
        except ValueError:
            raise pytest.UsageError(f"--layers {layers!r}: give block numbers with commas, for instance 8,20") from None
    if (multiplier := config.getoption("multiplier")) is not None:
        given["methods"] = tuple(dataclasses.replace(plan, multiplier=multiplier) for plan in profile.methods)
    return dataclasses.replace(profile, **given)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each method at each layer, ordered by layer."""
    if "cell" not in metafunc.fixturenames:
        return
    run = metafunc.config.stash[_RUN]
    cells = [Cell(plan.name, layer, plan.multiplier) for layer in run.layers for plan in run.setting.profile.methods]
    marked = [
        pytest.param(cell, marks=[pytest.mark.layer(index=cell.layer), pytest.mark.method(name=cell.method)])
        for cell in cells
    ]
    metafunc.parametrize("cell", marked, ids=[cell.id for cell in cells])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Show pytest-benchmark that cells are benchmarks: --benchmark-only and --benchmark-skip look at the fixtures."""
    if _timing(config):
        for item in filter(_is_cell, items):
            item.fixturenames.append("benchmark")


def _is_cell(item: pytest.Item) -> bool:
    return "cell" in getattr(item, "fixturenames", ())


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cells were selected: only their layers are captured. Check that results can be written."""
    run = session.config.stash[_RUN]
    run.cells = [item.callspec.params["cell"] for item in session.items if _is_cell(item)]
    if run.cells and not session.config.option.collectonly:
        try:
            Journal(run.results)
        except SteeringError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def sweep(request: pytest.FixtureRequest) -> Sweep:
    """The model, loaded, and the measurements that all cells share, made."""
    config = request.config
    run = config.stash[_RUN]
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    with _ending_cleanly(), _uncaptured(config):
        reporter = progress.for_terminal()
        reporter.note(f"loading model {run.setting.profile.model} …")
        model = LanguageModel.load(run.setting.profile.model, config.getoption("dtype"), config.getoption("device"))
        layers = [cell.layer for cell in run.cells]
        sweep = Sweep(run.setting, model, Journal(run.results), layers, run=name, progress=reporter)
        run.outcomes.append(sweep.unsteered)
        _ = sweep.activations
    return sweep


@pytest.fixture
def verdict_on(request: pytest.FixtureRequest) -> Callable[[Cell, Outcome], Verdict]:
    """Hold a cell against its profile's claim, and remember the verdict for the table."""
    run = request.config.stash[_RUN]

    def decide(cell: Cell, outcome: Outcome) -> Verdict:
        verdict = judge(run.setting.profile, cell, outcome)
        run.verdicts[cell.method, cell.layer] = verdict.state
        return verdict

    return decide


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Callable[[Sweep, Cell], Outcome]:
    """Measure a cell, timed by pytest-benchmark where that plugin is on."""
    config = request.config
    run = config.stash[_RUN]
    benchmark = request.getfixturevalue("benchmark") if _timing(config) else None

    def measure(sweep: Sweep, cell: Cell) -> Outcome:
        with _ending_cleanly(), _uncaptured(config):
            if benchmark is None:
                outcome = sweep.measure(cell)
            else:
                outcome = benchmark.pedantic(sweep.measure, args=(cell,), rounds=1, iterations=1)
                benchmark.group = f"layer {cell.layer}"
                benchmark.extra_info.update(_extra_info(sweep, outcome))
        run.outcomes.append(outcome)
        return outcome

    return measure


def _extra_info(sweep: Sweep, outcome: Outcome) -> dict[str, object]:
    """Metrics beside the timings in pytest-benchmark's JSON."""
    values = {row.metric: {"value": row.value, "low": row.low, "high": row.high, "n": row.n} for row in outcome.rows}
    return {
        "capture_seconds": sweep.capture_seconds,
        "construction_seconds": outcome.construction_seconds,
        "evaluation_seconds": outcome.evaluation_seconds,
        "metrics": values,
    }


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
    if run is None or not run.outcomes:
        return
    rows = [row for outcome in run.outcomes for row in outcome.rows]
    terminalreporter.section("steering")
    width = shutil.get_terminal_size().columns if terminalreporter.isatty else _WIDTH
    terminalreporter.write(to_text(summary(rows, run.verdicts), width))
    profile = run.setting.profile
    terminalreporter.write_line(
        "P(success): share of rollouts with a keyword. p: one-sided, paired with the unsteered rollouts, not adjusted "
        "for the number of cells. Δ loss: steered minus unsteered, nats per token."
    )
    if run.waiver:
        terminalreporter.write_line(f"No claim was tested: {run.waiver}.")
    elif "no claim" in run.verdicts.values():
        terminalreporter.write_line(
            f"no claim: profile {profile.name!r} claims nothing there; the values are recorded."
        )
    if len(run.verdicts) < len(run.cells):
        terminalreporter.write_line(f"Not finished: {len(run.verdicts)} of {len(run.cells)} cells were measured.")
    terminalreporter.write_line(f"Results: {run.results / FILE_NAME}")
