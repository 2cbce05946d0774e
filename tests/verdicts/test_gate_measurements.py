"""Which of several measurements of a cell the gate holds against its baseline."""

from __future__ import annotations

from steering.journal import Journal, load_rows
from steering.tables.gate import remarks
from steering.verdicts.comparability import obstacles
from steering.verdicts.gate import compare
from steering.verdicts.promotion import promote
from tests.gate_rows import MEASUREMENT, baseline_of, cell, items_of
from tests.verdicts.test_gate import verdict


def test_of_several_measurements_the_last_that_can_be_compared_counts():
    baseline = baseline_of(cell())
    good, bad = cell(vector_hash="d"), cell(items=items_of(20), vector_hash="e")
    other = cell(items=items_of(0), multiplier=3.0)
    assert verdict(baseline, [*good, *bad, *other]).state == "regressed"
    assert verdict(baseline, [*bad, *good, *other]).state == "ok"
    assert verdict(baseline, [*bad, *good, *bad]).state == "regressed", "the first was measured again"
    last = cell(items=items_of(0), seed=5)
    assert verdict(baseline, [*other, *last]).reason == "seed is 5 and was 0"


def test_later_measurement_that_cannot_be_compared_is_told_though_the_verdict_is_another_s():
    report = compare(baseline_of(cell()), [*cell(), *cell(multiplier=3.0)])
    [found] = report.verdicts
    assert (found.state, report.exit_code) == ("ok", 0)
    assert found.passed_over == "multiplier is 3.0 and was 12.0"
    told = "a later measurement does not count, since multiplier is 3.0 and was 12.0"
    assert remarks(report)[0] == f"mean_difference-layer20: {told}"
    assert verdict(baseline_of(cell()), [*cell(multiplier=3.0), *cell()]).passed_over == ""
    chosen_by = cell(measurement=MEASUREMENT | {"split": "development"})
    assert verdict(baseline_of(cell()), [*cell(), *chosen_by]).passed_over == "", "that was no attempt at the cell"
    report = compare(baseline_of(cell()), [*chosen_by, *cell(8, measurement=MEASUREMENT | {"split": "development"})])
    assert [(found.layer, found.state) for found in report.verdicts] == [(20, "missing")]


def test_dose_that_came_out_otherwise_leaves_nothing_of_the_earlier_one_to_compare(tmp_path):
    budget = {"parameters": {"neutral_budget": 0.05}}
    before = cell(**budget)
    Journal(tmp_path).append([*before, *cell(items=items_of(20), **budget | {"multiplier": 8.0})])
    [found] = compare(baseline_of(before), load_rows(tmp_path)).verdicts
    assert (found.state, found.reason) == ("not comparable", "multiplier is 8.0 and was 12.0")


def test_of_a_vector_that_is_scaled_to_another_s_norm_the_multiplier_that_was_asked_for_is_compared():
    scaled = {"norm_of": "mean_difference", "scaled_multiplier": 12.0}
    baseline = baseline_of(cell(parameters=scaled, multiplier=40.0))
    assert verdict(baseline, cell(items=items_of(20), parameters=scaled, multiplier=41.0)).state == "regressed"
    both = [*cell(parameters=scaled, multiplier=40.0), *cell(parameters=scaled, multiplier=40.1, device="cuda")]
    assert verdict(promote(both), cell(parameters=scaled, multiplier=40.2)).state == "ok"
    found = verdict(baseline, cell(parameters=scaled | {"scaled_multiplier": 11.0}, multiplier=40.0))
    assert found.reason == "parameter scaled_multiplier is 11.0 and was 12.0"


def test_of_a_scaled_vector_under_a_budget_the_dose_is_compared_and_not_how_its_norm_is_rounded():
    budget = {"norm_of": "mean_difference", "neutral_budget": 0.05}
    baseline = baseline_of(cell(parameters=budget, multiplier=40.0))
    assert verdict(baseline, cell(parameters=budget, multiplier=40.1)).state == "ok"
    assert verdict(baseline, cell(parameters=budget, multiplier=45.0)).state == "not comparable"


def test_versions_that_changed_are_told_and_do_not_hinder():
    baseline = baseline_of(cell(versions={"torch": "2.0.0", "python": "3.11.0", "numpy": "2.1.0"}))
    found = verdict(baseline, cell(items=items_of(20), versions={"torch": "2.1.0", "python": "3.11.0"}))
    assert found.state == "regressed"
    assert found.reason.endswith("; computed with torch 2.1.0, before with 2.0.0")
    assert "computed with" not in verdict(baseline, cell(versions={})).reason


def test_model_that_is_configured_otherwise_is_held_against_the_baseline():
    found = cell(items=items_of(20), model_settings_hash="another release of the libraries knows more settings")
    assert verdict(baseline_of(cell()), found).state == "regressed"


def test_stored_vector_to_whose_norm_a_cell_is_scaled_may_lie_elsewhere():
    def scaled(path):
        reference = {"construction": "stored", "path": path}
        return cell(parameters={"norm_of": reference, "scaled_multiplier": 12.0}, multiplier=40.0)

    assert verdict(baseline_of(scaled("/a/vector")), scaled("/b/vector")).state == "ok"


def test_baseline_of_losses_alone_asks_for_no_rollouts():
    items = items_of()
    del items["rollout_probability"]
    [row, *_] = cell(items=items, measurement=MEASUREMENT | {"rollouts": 10})
    assert obstacles(baseline_of(cell(items=items)), row) == []


def test_other_texts_under_the_same_names_are_told_with_what_may_be_the_matter():
    [row, *_] = cell(data_hash="e")
    [_, hint] = obstacles(baseline_of(cell()), row)
    assert hint == "the texts of royalty or embedded are others, or another number of neutral documents"
    [row, *_] = cell(data_hash="e", concept="weddings")
    assert len(obstacles(baseline_of(cell()), row)) == 2, "concept and hash"


def test_run_of_another_model_without_a_cell_of_the_baseline_is_not_comparable():
    """Not missing: that would say that the code got worse."""
    baseline = baseline_of(cell(20))
    report = compare(baseline, cell(8, method="other", model="another", model_hash="f" * 64))
    states = {verdict.method: verdict.state for verdict in report.verdicts}
    assert states == {"mean_difference": "not comparable", "other": "new"}
    assert report.exit_code == 6
    assert compare(baseline, cell(8, method="other")).exit_code == 1, "of the same model, the cell was not measured"
