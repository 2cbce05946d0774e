"""`pytest bench --vector`: vectors that exist already, beside a random direction of their norm."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from steering.journal import load_rows
from steering.methods import methods
from steering.metrics import metrics
from steering.vectors import SteeringVector
from tests.methods.test_stored import stored

# Loaded here, since pytester forgets the modules that are first imported while it runs.
PLUGINS = (*methods, *metrics)


@pytest.fixture
def undosed(tmp_path) -> Path:
    """A vector of the small model's block 1 that recommends no multiplier."""
    path = tmp_path / "undosed.safetensors"
    SteeringVector(torch.ones(32), 1, "m", "c", "model").save(path)
    return path


@pytest.mark.parametrize(
    ("options", "multiplier"),
    [(("--multiplier", "-3"), -3), (("--multiplier", "3"), 3), (("--equal-norm",), None), (("--budget", "9"), None)],
)
def test_run_that_finds_or_names_a_dose_needs_no_recommended_one(
    bench, arguments, undosed, profile_file, tmp_path, options, multiplier
):
    text = profile_file.read_text(encoding="utf-8")
    profile_file.write_text(f"neutral_documents = 2\ndevelopment_documents = 2\n{text}", encoding="utf-8")
    bench(*arguments, "--vector", str(undosed), "-k", "undosed", *options).assert_outcomes(passed=2, deselected=4)
    rows = {row.method: row for row in load_rows(tmp_path / "results") if row.metric == "rollout_probability"}
    own, control = rows["undosed"], rows["undosed_control"]
    if multiplier is not None:
        assert own.multiplier == multiplier
        assert math.copysign(1, control.multiplier) == math.copysign(1, multiplier)
    assert own.parameters.get("neutral_budget") == (9 if "--budget" in options else None)
    if "--budget" not in options:
        added = [row.multiplier * row.vector_norm for row in (own, control)]
        assert added[0] == pytest.approx(added[1], rel=1e-5)


def test_vector_that_the_run_would_leave_out_is_refused_and_other_methods_are_where_they_are_asked_for(
    bench, arguments, undosed
):
    vector = ("--vector", str(undosed), "--multiplier", "2")
    refused = bench(*arguments, *vector, "--layers", "0")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--vector {undosed}: it is for layer 1; give that with --layers" in refused.stderr.str()
    shown = bench(*arguments, *vector, "--layers", "1", "--collect-only", "-q").outlines
    assert [line.split("[")[1] for line in shown if "::" in line] == [
        f"{name}-layer1]" for name in ("mean_difference", "random_direction", "undosed", "undosed_control")
    ]


def test_vector_of_another_model_and_concept_is_measured_with_a_remark(bench, arguments, undosed):
    result = bench(*arguments, "--vector", str(undosed), "--multiplier", "2", "-k", "undosed")
    result.assert_outcomes(passed=2, deselected=4)
    told = result.stdout.str()
    assert "undosed.safetensors is about c, and was measured by the words and texts of royalty." in told
    assert "undosed.safetensors was constructed on model model, applied to " in told


def test_vector_of_another_width_ends_the_run_before_anything_is_measured(bench, arguments, tmp_path):
    path = stored(tmp_path / "narrow.safetensors", torch.ones(7), layer=1)
    bench(*arguments, "--vector", path, "-k", "layer1 and not narrow").assert_outcomes(passed=2, deselected=4)
    (tmp_path / "results" / "results.jsonl").unlink()
    result = bench(*arguments, "--vector", path, "-k", "narrow")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "narrow.safetensors: the vector has 7 numbers, and the residual stream of" in result.stdout.str()
    assert load_rows(tmp_path / "results") == []


def test_controls_of_two_files_of_one_name_stay_beside_each_other(bench, arguments, tmp_path):
    for number, length in enumerate((1.0, 10.0)):
        (tmp_path / str(number)).mkdir()
        path = stored(tmp_path / str(number) / "mine.safetensors", torch.full((32,), length), layer=1)
        bench(*arguments, "--vector", path, "-k", "mine").assert_outcomes(passed=2, deselected=4)
    rows = [row for row in load_rows(tmp_path / "results") if row.metric == "rollout_probability"]
    added = [(row.method, round(row.multiplier * row.vector_norm)) for row in rows if row.layer is not None]
    norms = [round(2 * length * math.sqrt(32)) for length in (1.0, 10.0)]
    assert sorted(added) == [(name, norm) for name in ("mine", "mine_control") for norm in norms]


def test_gate_knows_a_stored_vector_wherever_it_lay(bench, arguments, undosed, call, tmp_path):
    options = (*arguments, "--multiplier", "2", "-k", "undosed", "--vector")
    bench(*options, str(undosed)).assert_outcomes(passed=2, deselected=4)
    baseline = tmp_path / "baseline.json"
    assert call("baseline", "promote", tmp_path / "results", "--output", baseline)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    moved = undosed.rename(tmp_path / "elsewhere" / undosed.name)
    result = bench(*options, str(moved), "--gate", str(baseline), "--results", str(tmp_path / "again"))
    assert result.ret == 0
    assert "1 cell: 1 ok" in result.stdout.str()


def test_vector_for_a_layer_that_the_model_does_not_have_is_one_message(bench, arguments, tmp_path):
    path = tmp_path / "far.safetensors"
    SteeringVector(torch.ones(32), 9, "m", "c", "model").save(path)
    result = bench(*arguments, "--vector", str(path), "--multiplier", "1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown layer '9'. Known: 0 to 1." in result.stderr.str()
    assert f"for {path}" in result.stderr.str()
