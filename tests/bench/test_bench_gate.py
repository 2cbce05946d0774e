"""`pytest bench --gate`: a run against its baseline, and what it tells the outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steering.cli.main import app
from steering.methods import methods
from steering.metrics import metrics
from tests.bench.test_bench import INTERRUPTED
from tests.documents import ROOT

# Loaded here, since pytester forgets the modules that are first imported while it runs.
PLUGINS = (*methods, *metrics)


@pytest.fixture
def baseline(bench, arguments, tmp_path) -> Path:
    """What an unchanged run promotes."""
    bench(*arguments).assert_outcomes(passed=4)
    path = tmp_path / "baseline.json"
    ended = CliRunner().invoke(app, ["baseline", "promote", str(tmp_path / "results"), "--output", str(path)])
    assert ended.exit_code == 0, ended.output
    return path


def changed(path: Path, change: Any) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def again(bench, arguments, baseline, tmp_path, *options: str) -> pytest.RunResult:
    return bench(*arguments, "--gate", str(baseline), "--results", str(tmp_path / "again"), *options)


def test_unchanged_run_passes(bench, arguments, baseline, tmp_path):
    result = again(bench, arguments, baseline, tmp_path)
    assert result.ret == 0
    assert "4 cells: 4 ok" in result.stdout.str()


def test_worse_run_fails_and_names_the_cell(bench, arguments, baseline, tmp_path):
    def always_successful(record: dict[str, Any]) -> None:
        [cell] = [cell for cell in record["cells"] if (cell["method"], cell["layer"]) == ("mean_difference", 1)]
        cell["scores"]["rollout_probability"] = {"value": 1.0, "n": 2000, "items": [1.0] * 2000}

    changed(baseline, always_successful)
    result = again(bench, arguments, baseline, tmp_path)
    result.assert_outcomes(passed=4)
    assert result.ret == 1
    text = result.stdout.str()
    assert "mean_difference-layer1: regressed: rollout_probability 1.0000 (n = 2000) → " in text
    assert "3 ok, 1 regressed" in text
    assert "The gate does not pass: exit status 1." in text


@pytest.mark.parametrize(
    "selection", [("-k", "layer1"), ("--layers", "1"), ("--shard", "2/2"), ("-m", "layer(index=1)")]
)
def test_what_was_left_out_on_purpose_is_not_missed(bench, arguments, baseline, tmp_path, selection):
    result = again(bench, arguments, baseline, tmp_path, *selection)
    assert result.ret == 0
    assert "2 cells: 2 ok" in result.stdout.str()


@pytest.mark.parametrize("selection", [("-k", "layer1"), ("--layers", "1")])
def test_gate_that_none_of_the_selected_cells_is_in_is_refused(bench, arguments, baseline, tmp_path, selection):
    def first_layer_alone(record: dict[str, Any]) -> None:
        record["cells"] = [cell for cell in record["cells"] if cell["layer"] == 0]

    changed(baseline, first_layer_alone)
    result = again(bench, arguments, baseline, tmp_path, *selection)
    assert result.ret == 4
    assert "--gate: none of the selected tests is in its baseline" in result.stderr.str()
    assert not (tmp_path / "again").exists()
    assert again(bench, arguments, baseline, tmp_path, "--shard", "2/2").ret == 0


def test_cells_beside_a_test_that_was_named_are_not_missed(pytester, arguments, baseline, tmp_path):
    named = f"{ROOT / 'bench' / 'test_quality.py'}::test_steering[mean_difference-layer1]"
    place = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider", named)
    options = (*arguments, "--gate", str(baseline), "--results", str(tmp_path / "again"))
    result = pytester.runpytest_inprocess(*place, *options)
    assert result.ret == 0
    assert "1 cell: 1 ok" in result.stdout.str()


def test_cell_that_the_profile_lost_is_missing(bench, arguments, baseline, tmp_path, profile_file):
    profile_file.write_text(profile_file.read_text(encoding="utf-8") + "layers = [0]\n", encoding="utf-8")
    result = again(bench, arguments, baseline, tmp_path)
    assert result.ret == 1
    assert "random_direction-layer1: missing" in result.stdout.str()


def test_cells_under_other_settings_are_not_comparable_and_have_their_own_status(bench, arguments, baseline, tmp_path):
    changed(baseline, lambda record: record["cells"][0].update(multiplier=3.0))
    result = again(bench, arguments, baseline, tmp_path)
    assert result.ret == 6
    text = result.stdout.str()
    assert "1 not comparable, 3 ok" in text
    assert " and was 3.0" in text[text.index("gate ===") :]
    assert "The gate does not pass: exit status 6." in text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--seed", "1"), "seed is 1 and was 0"),
        (("--multiplier", "3"), "multiplier is 3 and was 12"),
        (("--rollouts", "4"), "rollouts is 4, and at least 8 are required"),
        (("--dtype", "bfloat16"), "dtype is 'bfloat16' and was 'float32'; run it with --dtype float32, or hold "),
    ],
)
def test_run_that_cannot_be_compared_ends_before_anything_is_measured(
    bench, arguments, baseline, tmp_path, monkeypatch, options, told
):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    result = again(bench, arguments, baseline, tmp_path, *options)
    assert result.ret == 6
    assert told in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert f"not comparable with the baseline, and nothing was measured: {told}" in result.stdout.str()
    assert "gate ===" not in result.stdout.str()
    assert (tmp_path / "again" / "results.jsonl").read_bytes() == b""


def test_lost_claim_keeps_its_status_beside_cells_that_are_not_comparable(
    bench, arguments, baseline, tmp_path, profile_file
):
    given = dict(argument.split("=", 1) for argument in arguments)
    text = profile_file.read_text(encoding="utf-8").replace('"embedded"', f'"{given["--model"]}"', 1)
    text = text.replace('"gender"', f'"{given["--concept"]}"').replace('"embedded"', f'"{given["--neutral"]}"')
    profile_file.write_text(text.replace("[methods", "rollouts = 8\n[methods", 1), encoding="utf-8")
    changed(baseline, lambda record: [cell.update(multiplier=99.0) for cell in record["cells"][1:]])
    result = again(bench, arguments, baseline, tmp_path)
    result.assert_outcomes(passed=3, failed=1)
    assert "3 not comparable" in result.stdout.str()
    assert "The gate does not pass: exit status 1." in result.stdout.str()
    assert result.ret == 1


def test_damaged_baseline_is_one_message_before_anything_runs(bench, arguments, tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text('{"schema_version": 1', encoding="utf-8")
    result = bench(*arguments, "--gate", str(path))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert str(path) in result.stderr.str()
    assert not (tmp_path / "results").exists()


def test_baseline_of_another_schema_is_not_comparable_before_anything_runs(bench, arguments, baseline, tmp_path):
    changed(baseline, lambda record: record.update(schema_version=99))
    result = again(bench, arguments, baseline, tmp_path)
    assert result.ret == 6
    assert "not comparable: " in result.stderr.str()
    assert not (tmp_path / "again").exists()


def test_names_of_a_baseline_move_no_cursor_and_are_no_markup(bench, arguments, baseline, tmp_path, monkeypatch):
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    changed(baseline, lambda record: record["cells"][0].update(method="\x1b[2J<img src=x>*a*"))
    result = again(bench, arguments, baseline, tmp_path)
    assert result.ret == 1
    assert "<img src=x>*a*-layer0: missing" in result.stdout.str()
    assert "\x1b[2J" not in result.stdout.str()
    assert "- \ufffd[2J\\<img src=x>\\*a\\*-layer0: missing" in path.read_text(encoding="utf-8")


def test_summary_of_a_step_holds_the_tables(bench, arguments, baseline, tmp_path, monkeypatch):
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    again(bench, arguments, baseline, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("## steering-bench")
    assert "| mean_difference | 0 |" in text
    assert "4 cells: 4 ok" in text


def test_junit_file_holds_values_and_claims(bench, arguments, tmp_path):
    path = tmp_path / "junit.xml"
    bench(*arguments, "--layers", "0", "--junitxml", str(path)).assert_outcomes(passed=2)
    text = path.read_text(encoding="utf-8")
    for name in ("rollout_probability", "loss_change_neutral", "claim"):
        assert text.count(f'<property name="{name}"') == 2


def test_run_without_tests_is_not_compared(bench, arguments, baseline, tmp_path):
    result = again(bench, arguments, baseline, tmp_path, "--setup-only")
    assert result.ret == 0
    assert "gate ===" not in result.stdout.str()
    assert "The gate judged nothing" in result.stdout.str()


def test_interrupted_run_is_not_judged(arguments, baseline, tmp_path):
    given = [*arguments, "--gate", str(baseline), "--results", str(tmp_path / "again"), "-p", "no:cacheprovider"]
    own = os.environ | {"STEERING_BENCH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", INTERRUPTED, "bench", *given]
    ended = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "The gate judged nothing: the run did not get to its end." in ended.stdout
    assert "missing" not in ended.stdout


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan"])
def test_run_that_only_looks_is_not_compared(bench, arguments, baseline, tmp_path, option):
    result = again(bench, arguments, baseline, tmp_path, option)
    assert result.ret == 0
    assert "The gate does not pass" not in result.stdout.str()
    assert not (tmp_path / "again").exists()
