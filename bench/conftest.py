"""Fixtures and hooks of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import processes, reporting, selection
from bench.request import resolve
from bench.run import Run
from bench.timing import CellClock, extra_info
from steering import progress
from steering.activation_cache import ActivationCache
from steering.cli.options import load_model
from steering.errors import SchemaError, SteeringError
from steering.files import make_directory
from steering.journal import Journal
from steering.models.language_model import LanguageModel
from steering.results import SAE
from steering.sweeps.cells import Cell, Outcome
from steering.sweeps.sae_quality import SaeOutcome, SaeQuality
from steering.sweeps.sweep import Sweep
from steering.verdicts.claims import ClaimVerdict, judge, judge_sae
from steering.verdicts.gate import NOT_COMPARABLE_STATUS

collect_ignore = ["test_speed.py", "test_growth.py"]  # run by name only: they say nothing of vectors
# Options with which pytest shows what there is, and runs nothing.
_LOOKING = ("cacheshow", "collectonly", "setupplan", "showfixtures", "show_fixtures_per_test")
# How a run ends that was not held against its baseline, since it did not get to its end.
_STOPPED = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
_RUN = pytest.StashKey[Run]()
_GATE = pytest.StashKey[Any]()
_CLOCK = pytest.StashKey[CellClock]()


def pytest_configure(config: pytest.Config) -> None:
    """Resolve the options before anything is collected, so that a mistake costs no time."""
    config.addinivalue_line("markers", "layer(index): the block that a benchmark test steers; -m 'layer(index=8)'")
    config.addinivalue_line("markers", "method(name): the construction method of a benchmark test")
    if any(getattr(config.option, name, False) for name in ("help", "version", "markers")):
        return
    given = " ".join(config.invocation_params.args)
    if _timing(config) and "--benchmark-columns" not in given:
        config.option.benchmark_columns = ["mean"]  # one round a cell: the other statistics say nothing
    if _timing(config) and "--benchmark" not in given:
        config.option.benchmark_quiet = True  # its table ranks equal shares of what was measured together
    config.stash[_CLOCK] = CellClock()
    try:
        config.stash[_RUN] = Run(resolve(config))
        if timings := getattr(config.option, "benchmark_json", None):
            make_directory(Path(timings).parent)  # pytest-benchmark would fail for want of it, after everything
    except SchemaError as error:
        pytest.exit(f"not comparable: {error}", returncode=NOT_COMPARABLE_STATUS)
    except SteeringError as error:
        raise pytest.UsageError(str(error)) from None


def _timing(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin("benchmark")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each method at each layer, ordered by layer, and one for each SAE."""
    request = metafunc.config.stash[_RUN].request
    if "cell" in metafunc.fixturenames:
        marked = [
            pytest.param(cell, marks=[pytest.mark.layer(index=cell.layer), pytest.mark.method(name=cell.method)])
            for cell in request.cells
        ]
        metafunc.parametrize("cell", marked, ids=[cell.id for cell in request.cells])
    if "sae_layer" in metafunc.fixturenames:
        marked = [pytest.param(layer, marks=pytest.mark.layer(index=layer)) for layer in request.sae_layers]
        metafunc.parametrize("sae_layer", marked, ids=[f"layer{layer}" for layer in request.sae_layers])


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Show pytest-benchmark which tests are benchmarks, and leave to a shard its part of what is selected.

    --benchmark-only and --benchmark-skip look at the fixtures. Where there is no SAE, or no plan that applies, pytest
    makes one test without a parameter, which is left out.
    """
    for name, kind in (("cell", Cell), ("sae_layer", int)):
        items[:] = [
            item
            for item in items
            if name not in selection.fixtures(item) or isinstance(selection.parameter(item, name), kind)
        ]
    if _timing(config):
        for item in items:
            if {"cell", "sae_layer"} & set(selection.fixtures(item)):
                item.fixturenames.append("benchmark")
                layer = item.get_closest_marker("layer").kwargs["index"]
                item.add_marker(pytest.mark.benchmark(timer=config.stash[_CLOCK], group=f"layer {layer}"))
    yield
    run = config.stash[_RUN]
    request = run.request
    if request.shard is not None:
        own = [item for item in items if selection.is_own(item)]
        part = request.shard.part(own, lambda item: selection.group(request.setting.profile, item))
        run.is_empty_part = bool(own) and not part
        others = [item for item in own if item not in part]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cells were selected, and which were left out on purpose; refuse what they cannot be run with.

    Only the layers of the selected cells are captured; the others are not missed by the gate.
    """
    run = session.config.stash[_RUN]
    run.select(
        [cell for item in session.items if (cell := selection.parameter(item, "cell")) is not None],
        [layer for item in session.items if (layer := selection.parameter(item, "sae_layer")) is not None],
    )
    if (run.cells or run.sae_layers or run.is_empty_part) and not _is_looking(session.config):
        try:
            run.check_selection()
        except SteeringError as error:
            run.refusal = str(error)
            if not processes.is_worker(session.config):
                raise pytest.UsageError(run.refusal) from None


def _is_looking(config: pytest.Config) -> bool:
    return any(getattr(config.option, name, False) for name in _LOOKING)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Under pytest-xdist, a process that refuses its selection can tell so through its tests alone."""
    if refusal := item.config.stash[_RUN].refusal:
        pytest.fail(refusal, pytrace=False)


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """The model, loaded."""
    config = request.config
    reference = config.stash[_RUN].request.setting.profile.model
    with _ending_cleanly(config), _uncaptured(config):
        return load_model(reference, config.getoption("dtype"), config.getoption("device"))


@pytest.fixture(scope="session")
def sweep(request: pytest.FixtureRequest, model: LanguageModel) -> Sweep:
    """The measurements that all cells share, made."""
    config = request.config
    run = config.stash[_RUN]
    # Of a process of pytest-xdist that ends, no message is shown: there, the gate says so in the end.
    if not processes.is_worker(config):
        run.obstacles = run.obstacles_on(model)
        if run.obstacles:
            pytest.exit(reporting.refusal(run.obstacles), returncode=NOT_COMPARABLE_STATUS)
    with _ending_cleanly(config), _uncaptured(config):
        sweep = Sweep(
            run.request.setting,
            model,
            Journal(run.request.results),
            run.cells,
            run=run.request.name,
            saes=run.request.saes,
            progress=progress.for_log(),
            cache=ActivationCache(fresh=config.getoption("fresh")),
            earlier=run.request.earlier(),
            most_together=1 if processes.is_worker(config) else None,  # what it is given next is not known
        )
        run.outcomes = sweep.outcomes
        run.check_vectors(model)
        sweep.begin()
    return sweep


@pytest.fixture(scope="session")
def sae_quality(request: pytest.FixtureRequest, model: LanguageModel) -> SaeQuality:
    """What measures SAEs."""
    config = request.config
    asked = config.stash[_RUN].request
    with _ending_cleanly(config):
        journal, earlier = Journal(asked.results), asked.earlier()
    options = {"run": asked.name, "progress": progress.for_log(), "earlier": earlier}
    return SaeQuality(asked.setting, model, asked.saes, journal, **options)


@pytest.fixture
def verdict_on(request: pytest.FixtureRequest) -> Callable[[Outcome | SaeOutcome], ClaimVerdict]:
    """Hold an outcome against its profile's claim, and remember the verdict for the table and for JUnit's file."""
    run = request.config.stash[_RUN]

    def decide(outcome: Outcome | SaeOutcome) -> ClaimVerdict:
        if isinstance(outcome, SaeOutcome):
            run.sae_outcomes.append(outcome)
            verdict, key = judge_sae(run.request.setting.profile, outcome), (SAE, outcome.layer)
        else:
            verdict, key = judge(run.request.setting.profile, outcome), (outcome.cell.method, outcome.cell.layer)
        run.verdicts[key] = verdict.state
        request.node.user_properties += [(row.metric, row.value) for row in outcome.rows if row.status == "ok"]
        request.node.user_properties.append(("claim", verdict.message))
        return verdict

    return decide


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Measure something, timed by pytest-benchmark where that plugin is on."""
    config = request.config
    benchmark = request.getfixturevalue("benchmark") if _timing(config) else None

    def measure(work: Callable[[Any], Any], argument: Any, **extra: float) -> Any:
        with _ending_cleanly(config), _uncaptured(config):
            if benchmark is None:
                return work(argument)
            work = config.stash[_CLOCK].counting(work)
            outcome = benchmark.pedantic(work, args=(argument,), rounds=1, iterations=1)
        benchmark.extra_info.update(extra_info(outcome) | extra)
        return outcome

    return measure


@contextmanager
def _ending_cleanly(config: pytest.Config) -> Iterator[None]:
    """End the run with one message where going on makes no sense; rows written so far stay.

    Of a process of pytest-xdist that ends, no message is shown: there, the tests fail with it.
    """
    try:
        yield
    except SteeringError as error:
        if processes.is_worker(config):
            config.stash[_RUN].was_stopped = True
            pytest.fail(str(error), pytrace=False)
        pytest.exit(str(error), returncode=pytest.ExitCode.INTERRUPTED)


@contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """Let progress reach the terminal while pytest captures output."""
    manager = config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under pytest-xdist, before another process starts."""
    processes.greet(node.config.stash[_RUN], node)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:  # noqa: ARG001 - the hook's signature
    """Under pytest-xdist, after another process ended."""
    if not _is_looking(node.config):
        processes.collect(node.config.stash[_RUN], node)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold the run against its baseline, whose verdict decides about the exit status where pytest has no trouble."""
    config = session.config
    run = config.stash.get(_RUN, None)
    if run is None or _is_looking(config):
        return
    if processes.is_worker(config):
        processes.report(run, config)
        return
    if run.refusal or run.was_stopped:  # another process said so, in whose place tests failed
        session.exitstatus = pytest.ExitCode.USAGE_ERROR if run.refusal else pytest.ExitCode.INTERRUPTED
    if run.refusal or session.exitstatus in _STOPPED or config.option.setuponly:
        return
    run.read_lost_rows()
    config.stash[_GATE] = report = reporting.compare(run)
    if run.is_empty_part and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK  # there are more parts than groups of tests
    passed = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)  # a lost claim's status, 1, stays
    if report is not None and report.exit_code and session.exitstatus in passed:
        session.exitstatus = report.exit_code
    run.exit_status = int(session.exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print what was measured, what the profile claims of it, and where it is kept."""
    run, report = config.stash.get(_RUN, None), config.stash.get(_GATE, None)
    if run is None or run.refusal:
        return
    if run.all_rows or report is not None:
        reporting.show(run, report, terminalreporter)
    elif run.is_empty_part:
        terminalreporter.write_line(f"--shard {config.getoption('shard')}: no test is left for this part.")
    elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and run.request.cells:
        terminalreporter.write_line(reporting.nothing_selected(run))
