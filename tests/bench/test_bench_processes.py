"""`pytest bench` in several processes: shards that are merged, and pytest-xdist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.request import Shard
from steering.journal import load_rows
from steering.merging import merge
from steering.methods import methods
from steering.metrics import metrics
from steering.vectors import SteeringVector
from tests.documents import ROOT
from tests.small_rows import measured

# Loaded here, since pytester forgets the modules that are first imported while it runs.
PLUGINS = (*methods, *metrics)


def test_shards_have_each_test_once_and_merge_to_the_whole_run(bench, arguments, tmp_path):
    bench(*arguments).assert_outcomes(passed=4)
    parts = [tmp_path / f"part-{number}" for number in (1, 2)]
    passed = 0
    for number, part in enumerate(parts, start=1):
        outcomes = bench(*arguments, "--shard", f"{number}/2", "--results", str(part)).parseoutcomes()
        assert outcomes["passed"] + outcomes["deselected"] == 4
        passed += outcomes["passed"]
    assert passed == 4
    assert measured(merge(parts)) == measured(load_rows(tmp_path / "results"))


@pytest.mark.parametrize("count", range(1, 6))
def test_shards_are_parts_of_which_none_shares_a_group_with_another(count):
    items = ["a1", "a2", "b1", "c1", "a3", "d1", "c2", "e1"]
    parts = [Shard(number, count).part(items, lambda item: item[0]) for number in range(1, count + 1)]
    assert all(parts)
    assert sorted(item for part in parts for item in part) == sorted(items)
    assert [sorted(part, key=items.index) for part in parts] == parts
    assert sum(len({item[0] for item in part}) for part in parts) == 5


def test_cell_is_in_the_shard_of_its_control(bench, arguments, profile_file, tmp_path):
    part = tmp_path / "part"
    text = profile_file.read_text(encoding="utf-8").replace("claimed_layers = [1]", 'control = "random_direction"')
    other = '[methods.other]\nmethod = "random_direction"\nmultiplier = 12\nparameters = { seed = 7 }\n'
    profile_file.write_text(text + other, encoding="utf-8")
    bench(*arguments, "--layers", "0", "--shard", "2/2", "--results", str(part)).assert_outcomes(passed=1, deselected=2)
    assert {row.method for row in load_rows(part)} == {"unsteered", "other"}


def test_tests_of_other_directories_in_the_same_session_are_left_alone(bench, arguments, tmp_path):
    other = tmp_path / "test_other.py"
    other.write_text(
        "import pytest\n@pytest.mark.parametrize('cell', [1, 2])\ndef test_own(cell): assert cell\n", encoding="utf-8"
    )
    bench(*arguments, "--layers", "0", str(other)).assert_outcomes(passed=4)
    bench(*arguments, "--layers", "0", "--shard", "2/2", str(other)).assert_outcomes(passed=3, deselected=1)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_shard_that_there_is_not_is_one_message(bench, arguments, shard):
    result = bench(*arguments, "--shard", shard)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--shard '{shard}': give a part and their number, for instance 2/4*"])


def test_resumed_run_says_what_was_there(bench, arguments, tmp_path):
    bench(*arguments, "--layers", "0").assert_outcomes(passed=2)
    before = (tmp_path / "results" / "results.jsonl").read_text(encoding="utf-8")
    result = bench(*arguments, "--resume")
    result.assert_outcomes(passed=4)
    assert "27 of 45 values are of an earlier run." in result.stdout.str()
    after = (tmp_path / "results" / "results.jsonl").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert after.count("\n") == 45


@pytest.mark.parametrize("options", [("--resume",), ()])
def test_damaged_journal_is_one_message_and_is_not_added_to(bench, arguments, tmp_path, options):
    bench(*arguments, "--layers", "0").assert_outcomes(passed=2)
    path = tmp_path / "results" / "results.jsonl"
    lines = [line + "\n" for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    damaged = "".join([*lines[:3], lines[3].replace('"value": ', '"value": NaN, "was": '), *lines[4:]])
    path.write_text(damaged, encoding="utf-8")
    result = bench(*arguments, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "results.jsonl:4: not a results row" in result.stderr.str()
    assert path.read_text(encoding="utf-8") == damaged


def run_on_two_processes(arguments: list[str], directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "bench", *arguments, "-n", "2", "-p", "no:cacheprovider", *options]
    own = {"STEERING_BENCH_CACHE": str(directory.with_name("cache")), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "--results", str(directory)],
        cwd=ROOT,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_processes_of_pytest_xdist_measure_the_same_and_one_table_shows_all(bench, arguments, tmp_path):
    bench(*arguments).assert_outcomes(passed=4)
    junit = tmp_path / "junit.xml"
    ended = run_on_two_processes(arguments, tmp_path / "two", "--junitxml", str(junit))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert measured(load_rows(tmp_path / "two")) == measured(load_rows(tmp_path / "results"))
    assert len({row.run for row in load_rows(tmp_path / "two")}) == 1
    table = [line.split()[:2] for line in ended.stdout.splitlines()]
    for cell in (["mean_difference", "0"], ["mean_difference", "1"], ["random_direction", "0"]):
        assert cell in table
    assert "Not finished" not in ended.stdout
    assert junit.read_text(encoding="utf-8").count('name="rollout_probability"') == 4


def test_remarks_of_processes_are_shown_once(arguments, tmp_path):
    path = tmp_path / "other.safetensors"
    SteeringVector(torch.ones(32), 1, "m", "c", "another", recommended_multiplier=2.0).save(path)
    ended = run_on_two_processes(arguments, tmp_path / "two", "--vector", str(path), "-k", "other")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for remark in ("is about c, and was measured by", "was constructed on model another, applied to"):
        assert ended.stdout.count(f"other.safetensors {remark}") == 1


def test_what_ends_a_run_is_told_of_processes_too(arguments, tmp_path):
    ended = run_on_two_processes(arguments, tmp_path / "two", "--device", "nonsense")
    assert ended.returncode == 2
    assert "device 'nonsense' cannot be used here" in ended.stdout


@pytest.mark.parametrize("fault", ["results", "gate"])
def test_selection_that_processes_refuse_fails_with_the_reason(bench, arguments, call, tmp_path, fault):
    results, options, reason = tmp_path / "two", ("-k", "layer1"), "cannot be written"
    if fault == "results":
        results.write_text("a file, and no directory", encoding="utf-8")
    else:
        bench(*arguments, "-k", "layer0").assert_outcomes(passed=2, deselected=2)
        baseline = tmp_path / "baseline.json"
        assert call("baseline", "promote", tmp_path / "results", "--output", baseline)[0] == 0
        options, reason = (*options, "--gate", str(baseline)), "--gate: none of the selected tests is in its baseline"
    ended = run_on_two_processes(arguments, results, *options)
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "INTERNALERROR" not in ended.stdout + ended.stderr
    assert reason in ended.stdout


def test_gate_of_processes_that_cannot_be_compared_says_so_in_the_end(bench, arguments, call, tmp_path):
    bench(*arguments).assert_outcomes(passed=4)
    baseline = tmp_path / "baseline.json"
    assert call("baseline", "promote", tmp_path / "results", "--output", baseline)[0] == 0
    ended = run_on_two_processes(arguments, tmp_path / "two", "--gate", str(baseline), "--seed", "1")
    assert ended.returncode == 6, ended.stdout + ended.stderr
    assert "4 not comparable" in ended.stdout
    assert "seed is 1 and was 0" in ended.stdout


HOOKS = {"start": "pytest_sessionstart(session)", "teardown": "pytest_runtest_teardown(item)"}
CRASH = """
import os
import pytest

@pytest.hookimpl(tryfirst=True)
def {hook}:
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0" and not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        os._exit(9)
"""


@pytest.mark.parametrize(("moment", "resumed"), [("start", False), ("teardown", False), ("teardown", True)])
def test_what_a_process_wrote_before_it_crashed_is_not_missed(
    bench, arguments, call, tmp_path, monkeypatch, moment, resumed
):
    """Another process takes its place; the test in whose teardown it crashed has failed."""
    bench(*arguments).assert_outcomes(passed=4)
    baseline = tmp_path / "baseline.json"
    assert call("baseline", "promote", tmp_path / "results", "--output", baseline)[0] == 0
    plugin = tmp_path / "plugins" / "crashing.py"
    plugin.parent.mkdir()
    plugin.write_text(CRASH.format(hook=HOOKS[moment], mark=str(tmp_path / "crashed")), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(plugin.parent))
    results = tmp_path / "results" if resumed else tmp_path / "two"
    options = ("-p", "crashing", "--gate", str(baseline), *(["--resume"] if resumed else []))
    ended = run_on_two_processes(arguments, results, *options)
    assert (tmp_path / "crashed").exists()
    assert "INTERNALERROR" not in ended.stdout + ended.stderr
    assert "4 cells: 4 ok" in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == (moment == "teardown")


def test_processes_that_only_look_are_not_missed(arguments, tmp_path):
    ended = run_on_two_processes(arguments, tmp_path / "two", "--setup-plan")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not (tmp_path / "two").exists()


def test_shard_without_a_test_passes_and_says_so_and_its_part_can_be_merged(bench, arguments, tmp_path):
    parts = {number: tmp_path / f"part-{number}" for number in range(1, 6)}
    results = {
        number: bench(*arguments, "--shard", f"{number}/5", "--results", str(part)) for number, part in parts.items()
    }
    assert {result.ret for result in results.values()} == {0}
    [empty] = [number for number, part in parts.items() if not load_rows(part)]
    assert f"--shard {empty}/5: no test is left for this part." in results[empty].stdout.str()
    assert {row.method for row in merge(list(parts.values()))} == {"unsteered", "mean_difference", "random_direction"}
    nothing = bench(*arguments, "--shard", "1/2", "-k", "nonsense")
    assert nothing.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    ended = run_on_two_processes(arguments, tmp_path / "two", "--shard", f"{empty}/5")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"--shard {empty}/5: no test is left for this part." in ended.stdout
