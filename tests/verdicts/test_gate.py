"""Verdicts of the gate, each with a case that brings it about and one beside it that does not."""

from __future__ import annotations

import dataclasses
import gc
import warnings

import numpy as np
import pytest
from scipy.stats import fisher_exact, ttest_rel

from steering.tables.gate import remarks
from steering.verdicts.gate import CellVerdict, GateReport, compare
from tests.gate_rows import MEASUREMENT, METRICS, baseline_of, cell, failed, items_of, losses, rollouts
from tests.small_rows import small_row, unsteered_row


@pytest.fixture(autouse=True)
def quick_and_without_warnings(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels collects garbage at each adjustment: 0.2 s
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def verdict(baseline, rows, **options) -> CellVerdict:
    [found] = compare(baseline, rows, **options).verdicts
    return found


def test_the_same_run_again_is_ok():
    rows = cell()
    report = compare(baseline_of(rows), rows)
    [found] = report.verdicts
    assert (found.state, found.id, report.exit_code) == ("ok", "mean_difference-layer20", 0)
    assert [comparison.metric for comparison in found.comparisons] == list(METRICS)
    assert all(comparison.p_worse == 1.0 for comparison in found.comparisons[1:])


def test_a_drop_of_rollouts_regresses_with_the_numbers_in_its_message():
    found = verdict(baseline_of(cell(items=items_of(1000, 2000))), cell(items=items_of(60, 200)))
    [comparison] = [entry for entry in found.comparisons if entry.metric == "rollout_probability"]
    expected = fisher_exact([[60, 140], [1000, 1000]], alternative="less").pvalue
    assert found.state == comparison.state == "regressed"
    assert comparison.p_value == comparison.p_worse == pytest.approx(expected)
    assert (comparison.old, comparison.old_n, comparison.new, comparison.new_n) == (0.5, 2000, 0.3, 200)
    assert comparison.low < -0.2 < comparison.high < 0
    for told in ("mean_difference-layer20: regressed: rollout_probability", "0.5000 (n = 2000) → 0.3000 (n = 200)"):
        assert told in found.message
    assert "difference -0.2000 [" in found.message
    assert f"p = {expected:.2g} <= 0.04 (margin 0)" in found.message
    assert "loss_change" not in found.message, "only what is worse is told"


def test_a_rise_of_rollouts_is_an_improvement():
    found = verdict(baseline_of(cell(items=items_of(60))), cell(items=items_of(140)))
    assert found.state == "improved"
    assert compare(baseline_of(cell(items=items_of(60))), cell(items=items_of(140))).exit_code == 0


@pytest.mark.parametrize(
    ("metric", "shift", "state"),
    [
        ("loss_change_neutral", +0.05, "regressed"),
        ("loss_change_neutral", -0.05, "improved"),
        ("loss_change_positive", +0.05, "regressed"),
        ("loss_change_positive", -0.05, "improved"),
        ("loss_change_negative", -0.05, "regressed"),
        ("loss_change_negative", +0.05, "improved"),
        ("loss_change_neutral", +0.009, "ok"),
        ("loss_change_negative", -0.009, "ok"),
    ],
)
def test_losses_regress_in_their_own_direction_beyond_the_margin(metric, shift, state):
    noise = np.array(losses(0.0, seed=9)) / 10
    items = items_of()
    changed = items | {metric: (np.array(items[metric]) + shift + noise).tolist()}
    found = verdict(baseline_of(cell(items=items)), cell(items=changed))
    assert found.state == state
    [comparison] = [entry for entry in found.comparisons if entry.metric == metric]
    sign = -1 if metric == "loss_change_negative" else 1
    margin = sign * np.array(items[metric]) + 0.01
    expected = ttest_rel(sign * np.array(changed[metric]), margin, alternative="greater").pvalue
    assert comparison.p_value == pytest.approx(expected, rel=1e-6)
    assert comparison.low <= shift <= comparison.high


def test_regressed_wins_over_improved_within_a_cell():
    found = verdict(baseline_of(cell()), cell(items=items_of(160, loss_change_neutral=0.2)))
    assert {entry.state for entry in found.comparisons} == {"improved", "regressed", "ok"}
    assert found.state == "regressed"
    assert "better with" in found.reason
    assert "worse with" in found.reason


def test_p_values_are_adjusted_over_the_cells_of_a_metric():
    """A drop that is significant alone (p = .003) is not when forty cells are looked at."""
    before, after = items_of(100), items_of(72)
    alone = verdict(baseline_of(cell(items=before)), cell(items=after))
    assert alone.state == "regressed"
    others = [cell(layer, before) for layer in range(39)]
    rows = [row for rows in others for row in rows] + cell(39, after)
    found = compare(baseline_of(*others, cell(39, before)), rows)
    assert {entry.state for entry in found.verdicts} == {"ok"}
    last = found.verdicts[-1].comparisons[0]
    assert last.p_worse == pytest.approx(40 * alone.comparisons[0].p_value)


def test_margin_of_the_baseline_counts():
    before, after = cell(items=items_of(100)), cell(items=items_of(60))
    assert verdict(baseline_of(before), after).state == "regressed"
    found = verdict(baseline_of(before, margins={"rollout_probability": 0.15}), after)
    assert found.state == "ok"
    assert "(margin 0.15)" in found.message


def test_cell_that_was_not_measured_is_missing():
    baseline = baseline_of(cell(8), cell(20))
    report = compare(baseline, cell(20))
    assert [(entry.layer, entry.state) for entry in report.verdicts] == [(8, "missing"), (20, "ok")]
    assert report.exit_code == 1
    assert "mean_difference-layer8: missing: it is in the baseline and was not measured" in report.verdicts[0].message


def test_only_required_cells_can_be_missing():
    baseline = baseline_of(cell(8), cell(20))
    report = compare(baseline, cell(20), required={("mean_difference", 20), ("another", 3)})
    assert [(entry.layer, entry.state) for entry in report.verdicts] == [(20, "ok")]
    assert compare(baseline, cell(20), required={("mean_difference", 8)}).exit_code == 1


def test_cell_that_failed_is_missing_though_it_was_measured_before():
    rows = cell()
    for required in (None, set()):
        found = verdict(baseline_of(rows), [*rows, *failed(rows)], required=required)
        assert found.state == "missing"
        assert "loss_change_neutral failed: NaN or infinity in a loss" in found.message


def test_vector_that_could_not_be_made_is_missing_whatever_its_parameters():
    rows = cell(parameters={"top": 3, "construction": "feature_delta"})
    lost = failed(rows, "no feature", vector_hash="", vector_norm=None, parameters={"top": 3}, multiplier=1.0)
    found = verdict(baseline_of(rows), [*rows, *lost])
    assert (found.state, "no feature" in found.reason) == ("missing", True)


def test_vector_that_could_not_be_made_for_a_budget_says_nothing_of_the_cell_without():
    rows = cell(parameters={"top": 3})
    lost = failed(rows, "no feature", vector_hash="", vector_norm=None, parameters={"neutral_budget": 0.05})
    assert verdict(baseline_of(rows), [*rows, *lost]).state == "ok"
    found = verdict(baseline_of(rows), lost)
    assert (found.state, found.reason) == ("not comparable", "parameter neutral_budget is 0.05 and was None")


def test_metric_without_a_row_or_skipped_is_missing():
    rows = cell()
    left = [row for row in rows if row.metric != "loss_change_neutral"]
    assert "loss_change_neutral was not measured" in verdict(baseline_of(rows), left).reason
    skipped = failed(rows[:1], "no prompts", status="skipped")
    found = verdict(baseline_of(rows), [*rows, *skipped])
    assert (found.state, found.reason) == ("missing", "rollout_probability was skipped: no prompts")


def test_measured_cell_that_the_baseline_lacks_is_new_and_never_fails():
    report = compare(baseline_of(cell(20)), [*cell(20), *cell(8), *failed(cell(9))])
    assert [(entry.layer, entry.state) for entry in report.verdicts] == [(8, "new"), (20, "ok")]
    assert report.exit_code == 0


def test_controls_the_unsteered_run_and_saes_are_no_cells():
    control = cell(20, method="random_direction", is_control=True)
    others = [unsteered_row(), small_row(method="sae", parameters={"sae": "s"}), *control]
    report = compare(baseline_of(cell(20), others), [*cell(20), *others])
    assert [entry.method for entry in report.verdicts] == ["mean_difference"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_hash": "f" * 64}, f"model_hash is '{'f' * 12}…' and was '{'a' * 12}…'"),
        ({"dtype": "bfloat16", "model_hash": "f"}, "dtype is 'bfloat16' and was 'float32'"),
        ({"data_hash": "e"}, "data_hash is 'e' and was"),
        ({"seed": 1}, "seed is 1 and was 0"),
        ({"toward": "negative"}, "toward is 'negative' and was 'positive'"),
        ({"measurement": MEASUREMENT | {"top_p": 0.9}}, "top_p is 0.9 and was 0.8"),
        ({"parameters": {"tokens": "last"}}, "parameter tokens is 'last' and was None"),
        ({"multiplier": 11.9999}, "multiplier is 11.9999 and was 12.0"),
        ({"schema_version": 2}, "row_schema_version is 2 and was 1"),
    ],
)
def test_what_was_measured_otherwise_is_not_comparable(change, told):
    report = compare(baseline_of(cell()), cell(items=items_of(0), **change))
    assert (report.verdicts[0].state, report.exit_code) == ("not comparable", 6)
    assert told in report.verdicts[0].message
    assert report.verdicts[0].reason.count(" was ") == 1, "nothing else differs"


def test_what_hashes_tell_apart_has_its_names_too():
    report = compare(baseline_of(cell()), cell(model="other", model_hash="f", concept="c", neutral="n", data_hash="e"))
    for told in ("model is 'other' and was", "concept is 'c' and was", "neutral is 'n' and was", "model_hash is 'f'"):
        assert told in report.verdicts[0].message
    renamed = compare(baseline_of(cell()), cell(model="other"))
    assert renamed.verdicts[0].state == "ok"


def test_cells_that_regressed_win_over_cells_that_cannot_be_compared():
    states = ["ok", "new", "improved", "not comparable", "missing"]
    verdicts = {state: CellVerdict("m", 1, state, "") for state in [*states, "regressed"]}
    codes = {state: GateReport((verdicts["ok"], entry)).exit_code for state, entry in verdicts.items()}
    assert codes == {"ok": 0, "new": 0, "improved": 0, "not comparable": 6, "missing": 1, "regressed": 1}
    assert GateReport(tuple(verdicts.values())).exit_code == 1


def test_rounding_of_the_multiplier_the_vector_and_another_device_do_not_hinder():
    found = verdict(baseline_of(cell()), cell(multiplier=12.0 * (1 + 5e-7), vector_hash="d" * 64, device="cuda"))
    assert found.state == "ok"
    assert "the vector is another: dddddddd of norm 2.5, before cccccccc of norm 2.5" in found.message
    assert "computed on cuda, before on cpu" in found.message


def test_measured_outcome_among_the_parameters_is_told_and_does_not_hinder():
    found = verdict(
        baseline_of(cell(parameters={"neutral_budget": 0.05, "development_loss_change": 0.04})),
        cell(parameters={"neutral_budget": 0.05, "development_loss_change": 0.041}),
    )
    assert found.state == "ok"
    assert "development_loss_change is 0.041, before 0.04" in found.message


def test_fewer_rollouts_than_the_baseline_will_do_and_too_few_will_not():
    baseline = baseline_of(cell(items=items_of(1000, 2000)))
    assert baseline.required_rollouts == 200
    assert verdict(baseline, cell(items=items_of(100, 200))).state == "ok"
    assert verdict(baseline, cell(items=items_of(1500, 3000))).state == "ok"
    found = verdict(baseline, cell(items=items_of(0, 199)))
    assert found.state == "not comparable"
    assert "rollout_probability has 199 items, and at least 200 are required" in found.message


def test_losses_of_another_number_of_texts_are_not_comparable():
    items = items_of() | {"loss_change_neutral": losses(0.05, 49)}
    found = verdict(baseline_of(cell()), cell(items=items))
    assert (found.state, found.reason) == ("not comparable", "loss_change_neutral has 49 items and had 50")


def test_cells_that_cannot_be_compared_take_no_part_in_the_adjustment():
    baseline = baseline_of(cell(8), cell(20))
    found = compare(baseline, [*cell(8, seed=3), *cell(20, items_of(70))]).verdicts[1].comparisons[0]
    assert found.p_worse == found.p_value


def test_metrics_that_the_baseline_lacks_are_not_looked_at():
    found = verdict(baseline_of(cell(items={"rollout_probability": rollouts(100)})), cell(items=items_of(90)))
    assert [entry.metric for entry in found.comparisons] == ["rollout_probability"]


def test_parameters_of_live_rows_equal_those_that_were_read_back():
    baseline = baseline_of(cell(parameters={"ids": [1, 2]}))
    assert verdict(baseline, cell(parameters={"ids": (1, 2)})).state == "ok"


def test_report_is_ordered_and_counts_its_cells():
    report = compare(baseline_of(cell(20), cell(3)), [*cell(20), *cell(3), *cell(1, method="a")])
    assert [(entry.method, entry.layer) for entry in report.verdicts] == [
        ("a", 1),
        ("mean_difference", 3),
        ("mean_difference", 20),
    ]
    assert report.counts == {"new": 1, "ok": 2}
    assert dataclasses.is_dataclass(report)


def of_sae(name, digest):
    parameters = {"construction": "feature_delta", "sae": name, "sae_hash": digest}
    return cell(parameters=parameters | {"norm_of": parameters})


def test_sae_in_a_directory_of_another_name_is_the_same_sae():
    assert verdict(baseline_of(of_sae("mine/layer20", "a")), of_sae("checkout/layer20", "a")).state == "ok"


def test_another_sae_is_not_comparable_and_is_told_with_its_name():
    found = verdict(baseline_of(of_sae("mine/layer20", "a")), of_sae("checkout/layer20", "b"))
    assert found.state == "not comparable"
    assert "parameter sae_hash is 'b' and was 'a'" in found.message
    assert "parameter sae is 'checkout/layer20' and was 'mine/layer20'" in found.message


def test_cells_that_the_baseline_lacks_are_named_together():
    report = compare(baseline_of(cell(20)), [*cell(20), *cell(8), *cell(9), *cell(3, method="other")])
    assert remarks(report) == [
        "mean_difference at layers 8–9: not in the baseline",
        "other at layer 3: not in the baseline",
        "4 cells: 3 new, 1 ok",
    ]
