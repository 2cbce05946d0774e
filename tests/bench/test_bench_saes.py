"""`pytest bench` with sparse autoencoders: methods that read them, their controls, their quality, equal norms."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import sae_lens  # noqa: F401 - loaded here, since pytester forgets the modules that are first imported while it runs

from steering.journal import load_rows
from steering.results import Row
from tests.bench.test_bench import PLUGINS
from tests.small_saes import write_sae

METHODS = """
[methods.mean_difference]
multiplier = 2
[methods.delta]
method = "feature_delta"
multiplier = 3
control = "other features"
[methods."other features"]
method = "random_features"
multiplier = 3
"""
QUALITY = {"sae_variance_explained", "sae_l0", "sae_spliced_loss", "sae_loss_recovered", "sae_silent_features"}


@pytest.fixture
def saes(tmp_path: Path) -> Path:
    """An SAE of block 1 alone, whose features are described."""
    directory = write_sae(tmp_path / "saes" / "one", hook_name="blocks.1.hook_resid_post")
    records = [json.dumps({"feature": feature, "description": f"about {feature}"}) for feature in range(64)]
    (directory / "descriptions.jsonl").write_text("\n".join(records), encoding="utf-8")
    return tmp_path / "saes"


@pytest.fixture
def write_profile(profile_file, model_directory, concept_directory, neutral_file, saes):
    """Replace the profile of the run by one with SAEs, of the small model itself, so that its claims are tested."""

    def write(methods: str = METHODS, **changes: object) -> None:
        keys = {"model": model_directory, "concept": concept_directory, "neutral": neutral_file, "saes": saes}
        keys = {"description": "A test."} | keys | changes
        lines = "".join(f"{key} = {json.dumps(str(value))}\n" for key, value in keys.items() if value is not None)
        profile_file.write_text(lines + "rollouts = 8\n" + methods, encoding="utf-8")

    write()
    return write


def measured(directory: Path) -> dict[tuple[str, int | None], list[Row]]:
    """Rows of each method at each layer."""
    found = defaultdict(list)
    for row in load_rows(directory / "results"):
        found[row.method, row.layer].append(row)
    return dict(found)


def test_plugins_are_loaded_before_pytester_starts():
    assert "feature_delta" in PLUGINS


def test_methods_that_read_saes_run_where_there_are_saes_with_one_test_for_each_sae(bench, arguments, write_profile):
    result = bench(*arguments, "--collect-only", "-q")
    assert [line.split("::")[1] for line in result.outlines if "::" in line] == [
        "test_steering[mean_difference-layer0]",
        "test_steering[mean_difference-layer1]",
        "test_steering[delta-layer1]",
        "test_steering[other features-layer1]",
        "test_sae_quality[layer1]",
    ]


@pytest.mark.parametrize("need", ['norm_of = "delta"', 'control = "other features"'])
def test_plan_that_needs_an_sae_for_another_plan_runs_where_there_are_saes(bench, arguments, write_profile, need):
    write_profile(METHODS.replace("multiplier = 2", f"multiplier = 2\n{need}"))
    result = bench(*arguments, "-k", "mean_difference")
    result.assert_outcomes(passed=1, deselected=3)


def test_run_with_saes_shows_and_keeps_vectors_and_quality(bench, arguments, write_profile, tmp_path):
    result = bench(*arguments)
    result.assert_outcomes(passed=5)
    text = result.stdout.str()
    for words in (
        "p control",
        "variance explained",
        "loss recovered",
        "Of 1 control cell, 0 are above the unsteered run",
    ):
        assert words in " ".join(text.split())
    assert "Not finished" not in text
    rows = measured(tmp_path)
    assert list(rows) == [
        ("unsteered", None), ("mean_difference", 0), ("mean_difference", 1), ("other features", 1), ("delta", 1),
        ("sae", 1),
    ]  # fmt: skip
    assert {row.metric: row.parameters["sae"] for row in rows["sae", 1]} == dict.fromkeys(QUALITY, "saes/one")
    assert {row.status for cell in rows.values() for row in cell} == {"ok"}
    tests = {row.metric: row.p_control for row in rows["delta", 1] if row.p_control is not None}
    assert set(tests) == {"rollout_probability"}
    assert rows["delta", 1][0].features[0].description == f"about {rows['delta', 1][0].features[0].feature}"


def test_heaviest_features_are_shown_of_methods_and_not_of_their_controls(bench, arguments, write_profile, tmp_path):
    result = bench(*arguments, "-k", "features or delta")
    result.assert_outcomes(passed=2, deselected=3)
    shown = [
        line.split() for line in result.outlines if re.match(r".*\d [+-]\d\.\d{3}\s+about", re.sub(" +", " ", line))
    ]
    heaviest = measured(tmp_path)["delta", 1][0].features[:3]
    assert shown == [["delta", "1", str(e.feature), f"{e.weight:+.3f}", "about", str(e.feature)] for e in heaviest]


def test_quality_can_be_measured_alone(bench, arguments, write_profile, tmp_path):
    result = bench(*arguments, "-k", "sae_quality")
    result.assert_outcomes(passed=1, deselected=4)
    assert set(measured(tmp_path)) == {("sae", 1)}
    assert "P(success)" not in result.stdout.str()
    assert "no claim" in result.stdout.str()


def test_layer_selects_vectors_and_saes(bench, arguments, write_profile):
    result = bench(*arguments, "--collect-only", "-q", "-m", "layer(index=1)")
    assert sum("::" in line for line in result.outlines) == 4
    result = bench(*arguments, "--collect-only", "-q", "--layers", "0")
    assert sum("::" in line for line in result.outlines) == 1


def test_broken_bound_of_an_sae_fails_with_its_numbers(bench, arguments, write_profile, tmp_path):
    write_profile(METHODS + "[sae_bounds]\nvariance_explained = 2\nl0 = 1000\n")
    result = bench(*arguments, "-k", "sae_quality")
    result.assert_outcomes(failed=1, deselected=4)
    text = result.stdout.str()
    [row] = [row for row in measured(tmp_path)["sae", 1] if row.metric == "sae_variance_explained"]
    assert f"SAE of layer 1: variance explained {row.value:.3f}, lower end {row.low:.3f} < 2; L0 " in text
    assert "<= 1000" in text
    assert "Traceback" not in text


def test_bound_that_is_kept_holds_and_other_saes_waive_it(bench, arguments, write_profile, tmp_path):
    write_profile(METHODS + "[sae_bounds]\nl0 = 1000\n")
    kept = bench(*arguments, "-k", "sae_quality")
    kept.assert_outcomes(passed=1, deselected=4)
    assert "holds" in kept.stdout.str()
    write_profile(METHODS + "[sae_bounds]\nl0 = 0\n")
    waived = bench(*arguments, "-k", "sae_quality", "--saes", str(tmp_path / "saes" / "one"))
    waived.assert_outcomes(passed=1, deselected=4)
    assert "No claim was tested: the profile's claims are for its own SAEs." in waived.stdout.str()


def test_claim_is_broken_where_the_control_is_not_beaten(bench, arguments, write_profile):
    write_profile(METHODS.replace('control = "other features"', 'control = "other features"\nclaimed_layers = [1]'))
    result = bench(*arguments, "-k", "delta")
    result.assert_outcomes(failed=1, deselected=4)
    assert "significantly above its control other features (p = " in result.stdout.str()


@pytest.mark.parametrize("equal", [True, False])
def test_at_equal_norm_each_vector_adds_as_much_as_the_mean_difference(
    bench, arguments, write_profile, tmp_path, equal
):
    result = bench(*arguments, "-k", "layer1 and not sae", *(["--equal-norm"] if equal else []))
    result.assert_outcomes(passed=3, deselected=2)
    added = {row.method: row.multiplier * (row.vector_norm or 0) for row in load_rows(tmp_path / "results")}
    del added["unsteered"]
    assert np.allclose(list(added.values()), added["mean_difference"], rtol=1e-4) is equal
    assert ("claims are for its own methods and doses" in result.stdout.str()) is equal


def test_equal_norm_without_a_mean_difference_is_one_message(bench, arguments, write_profile):
    write_profile("[methods.random_direction]\nmultiplier = 1\n")
    result = bench(*arguments, "--equal-norm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "profile 'mine' has no plan of mean_difference that is no control" in result.stderr.str()


def test_plan_for_a_layer_that_its_model_does_not_have_is_one_message(bench, arguments, write_profile):
    write_profile(METHODS + "layers = [1, 5]\n")
    result = bench(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown layer '5'. Known: 0 to 1. Model: " in result.stderr.str()


def test_claim_where_there_is_no_sae_to_read_is_one_message(bench, arguments, write_profile, tmp_path):
    claim = 'control = "other features"\nclaimed_layers = [0, 1]'
    write_profile(METHODS.replace('control = "other features"', claim))
    result = bench(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "profile 'mine': method 'delta' needs SAEs, itself or for its control or norm, and claims layers [0], for "
        "which 'saes' has none; it has SAEs for the layers 1" in result.stderr.str()
    )
    waived = bench(*arguments, "--collect-only", "-q", "--saes", str(tmp_path / "saes" / "one"))
    assert waived.ret == pytest.ExitCode.OK


def test_claims_of_methods_that_read_no_saes_need_none(bench, arguments, write_profile):
    write_profile(METHODS.replace("multiplier = 2", "multiplier = 2\nclaimed_layers = [0, 1]"))
    assert bench(*arguments, "--collect-only", "-q").ret == pytest.ExitCode.OK


def test_where_no_plan_applies_there_is_no_test_of_cells(bench, arguments, write_profile, tmp_path):
    write_profile("[methods.feature_delta]\nmultiplier = 3\nlayers = [0]\n")
    result = bench(*arguments)
    result.assert_outcomes(passed=1)
    assert "NOTSET" not in result.stdout.str()
    assert "Not finished" not in result.stdout.str()
    assert set(measured(tmp_path)) == {("sae", 1)}


def test_another_model_leaves_out_the_methods_of_the_embedded_saes_with_a_note(
    bench, arguments, write_profile, tmp_path
):
    write_profile(model="embedded", saes="embedded")
    result = bench(*arguments)
    result.assert_outcomes(passed=2)
    assert "Not run: delta, other features. The embedded SAEs are for the model 'embedded'" in result.stdout.str()
    assert set(measured(tmp_path)) == {("unsteered", None), ("mean_difference", 0), ("mean_difference", 1)}


def test_another_model_runs_all_methods_with_saes_of_its_own(bench, arguments, write_profile, saes):
    write_profile(model="embedded", saes="embedded")
    result = bench(*arguments, "--collect-only", "-q", "--saes", str(saes))
    assert sum("::" in line for line in result.outlines) == 5


def test_method_that_reads_saes_where_none_are_named_is_one_message(bench, arguments, write_profile):
    write_profile(saes=None)
    result = bench(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "method 'delta' reads SAEs: name some with 'saes' in the profile or with --saes" in result.stderr.str()


def test_descriptions_that_do_not_exist_are_one_message(bench, arguments, write_profile):
    result = bench(*arguments, "--descriptions", "nowhere.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "nowhere.jsonl: no such file of feature descriptions" in result.stderr.str()


def test_descriptions_of_another_file_are_those_in_the_rows(bench, arguments, write_profile, tmp_path):
    path = tmp_path / "own.jsonl"
    records = [json.dumps({"feature": feature, "description": "mine"}) for feature in range(64)]
    path.write_text("\n".join(records), encoding="utf-8")
    bench(*arguments, "-k", "delta", "--descriptions", str(path)).assert_outcomes(passed=1, deselected=4)
    [given] = {row.parameters["descriptions_hash"] for row in load_rows(tmp_path / "results") if row.features}
    assert len(given) == 64
    assert {entry.description for entry in measured(tmp_path)["delta", 1][0].features} == {"mine"}


def test_vector_that_cannot_be_made_fails_its_own_test_alone(bench, arguments, write_profile, tmp_path):
    write_profile(METHODS + '[methods.hand_crafted]\nmultiplier = 1\nparameters = { keywords = ["emperor"] }\n')
    result = bench(*arguments, "-k", "not sae")
    result.assert_outcomes(passed=4, failed=1, deselected=1)
    assert "not measured: no feature's description holds any of 'emperor'" in " ".join(result.stdout.str().split())
    assert {row.status for row in measured(tmp_path)["hand_crafted", 1]} == {"failed"}


def test_sae_that_does_not_fit_the_model_ends_the_run_with_one_message(bench, arguments, write_profile, tmp_path):
    wide = write_sae(tmp_path / "wide", d_model=16)
    result = bench(*arguments, "--saes", str(wide))
    assert result.ret == 2
    assert f"SAE {tmp_path.name}/wide reads a width of 16, but model small has d_model 32" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


def test_benchmark_json_holds_the_quality_of_saes(bench, arguments, write_profile, tmp_path):
    bench(*arguments, "-k", "sae_quality", "--benchmark-json", str(tmp_path / "timings.json"))
    [entry] = json.loads((tmp_path / "timings.json").read_text())["benchmarks"]
    assert set(entry["extra_info"]["metrics"]) == QUALITY
    assert (entry["stats"]["rounds"], entry["group"]) == (1, "layer 1")
