"""What a report says in words, against the rows and against tests that are computed here in other ways."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from scipy.stats import binomtest

from steering.power import minimum_detectable_difference
from steering.report.studies import studies_of
from steering.report.verdict import best_cell, detectable_in, verdict_of
from steering.tables.detectable import detectable
from tests.report_rows import LAYERS, ROLLOUTS, SUCCESSES, damage_row, mcnemar, run, success_row, unsteered

BOUND = 0.1

pytestmark = pytest.mark.usefixtures("without_collection")


def study(rows, level=0.01):
    [found] = studies_of(rows, level)
    return found


def verdict(rows, level=0.01):
    return verdict_of(study(rows, level), BOUND)


def told(rows, method, level=0.01):
    [found] = [entry for entry in verdict(rows, level).methods if entry.method == method]
    return " ".join(found.sentences)


def holm(p_values):
    """Adjusted p values, by the definition: the i-th smallest of m times m - i + 1, never below one before it."""
    adjusted, highest = {}, 0.0
    for rank, (key, value) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        highest = max(highest, min(1.0, value * (len(p_values) - rank)))
        adjusted[key] = highest
    return adjusted


def expected_p(against):
    found = {}
    for method in ("mean_difference", "feature_delta"):
        for at, layer in enumerate(LAYERS):
            baseline = 4 if against is None else SUCCESSES[against][at]
            found[method, layer] = mcnemar(SUCCESSES[method][at], baseline)
    return holm(found)


@pytest.mark.parametrize(("field", "against"), [("p_value", None), ("p_control", "random_direction")])
def test_p_values_are_adjusted_over_the_cells_that_are_no_controls(field, against):
    found = {(cell.label, cell.layer): getattr(cell, field) for cell in study(run()).cells}
    for key, value in expected_p(against).items():
        assert found[key] == pytest.approx(value)
    assert all(found["random_direction", layer] is None for layer in LAYERS)


def test_methods_steer_where_the_adjusted_test_says_so():
    p_values = expected_p(None)
    for level in (0.001, 0.01, 0.05):
        for method in ("mean_difference", "feature_delta"):
            layers = [layer for layer in LAYERS if p_values[method, layer] < level]
            assert f"Steers at {len(layers)} of 3 layers: {', '.join(map(str, layers))}." in told(run(), method, level)
    found = verdict(run())
    assert found.headline == "2 of 2 methods steer, 2 of them also above their control."
    assert [method.method for method in found.methods] == ["feature_delta", "mean_difference"]


def test_method_at_several_doses_counts_once():
    rows = [*run(), *(dataclasses.replace(row, multiplier=row.multiplier / 2) for row in run() if row.layer == 20)]
    labels = [method.method for method in verdict(rows).methods]
    assert labels == [f"{method} ×{dose}" for method in ("feature_delta", "mean_difference") for dose in (0.5, 1)]
    assert verdict(rows).headline.startswith("2 of 2 methods steer, ")


def test_adjustment_decides():
    """12 of 40 against 4: p is 0.0039 alone, and 0.0156 among the four largest of six."""
    assert mcnemar(12, 4) < 0.005
    assert "Steers at 1 of 3 layers: 20. Not found at layers 4, 8." in told(run(), "feature_delta")
    alone = [row for row in run() if row.method == "unsteered" or (row.method, row.layer) == ("feature_delta", 8)]
    assert "Steers at 1 of 1 layer: 8." in told(alone, "feature_delta")


def test_numbers_are_those_of_the_rows():
    text = told(run(), "mean_difference")
    assert "P(success) is highest at layer 20: 0.950 [0.850, 1.000], adjusted p < 0.0001." in text
    assert "Also above its control random_direction at 2 of these 2." in text
    assert "changes the loss on neutral text by +0.050 to +0.200 nats per token; by less than 0.1 with 95 % " in text
    assert text.endswith("confidence at 1 of 2.")
    lead = verdict(run()).lead
    assert "In 3 of 6 cells" in lead
    assert "above the 0.100 [0.040, 0.230] of the unsteered run" in lead
    assert f"level 0.01, Holm-adjusted over all 6; n = {ROLLOUTS} rollouts" in lead


def test_what_was_not_found_is_said_with_what_could_have_been():
    rows = [unsteered(), success_row("mean_difference", 4, 5), damage_row("mean_difference", 4, 0.01)]
    found = verdict(rows)
    assert found.headline == "No method was found to steer."
    assert "Not found to steer at the one layer tested." in told(rows, "mean_difference")
    assert "nats" not in told(rows, "mean_difference"), "there is no cost where nothing steers"
    [missed] = found.remarks
    rise = float(re.search(r"by (0\.\d+) above", missed)[1])
    assert simulated_power(0.1, rise, 0.01) == pytest.approx(0.8, abs=0.03)


def simulated_power(share, rise, level, draws=4000):
    rng = np.random.default_rng(5)
    here, there = (rng.random((draws, ROLLOUTS)) < p for p in (share + rise, share))
    gained, lost = (here & ~there).sum(axis=1), (there & ~here).sum(axis=1)
    p_values = {(g, t): mcnemar_of(g, t) for g, t in {*zip(gained.tolist(), lost.tolist(), strict=True)}}
    return np.mean([p_values[key] < level for key in zip(gained.tolist(), lost.tolist(), strict=True)])


def mcnemar_of(gained, lost):
    return 1.0 if gained + lost == 0 else binomtest(gained, gained + lost, alternative="greater").pvalue


def test_controls_that_succeed_are_counted():
    rows = [row for row in run() if row.method != "random_direction"]
    rows += [success_row("random_direction", layer, count) for layer, count in zip(LAYERS, (4, 30, 38), strict=True)]
    [told] = [
        remark for remark in verdict(rows).remarks if "Of 3 control cells, 2 are above the unsteered run" in remark
    ]
    assert told.endswith("on average.")


def test_many_controls_that_succeed_put_the_unsteered_run_in_doubt():
    rows = [row for row in run() if row.method != "random_direction"]
    rows += [success_row("random_direction", layer, 30) for layer in LAYERS]
    assert any(
        "3 are above" in remark and remark.endswith("rely on cells that are above their control as well.")
        for remark in verdict(rows).remarks
    )


def test_cells_that_failed_are_named_with_the_reason():
    lost = {"value": None, "low": None, "high": None, "n": 0, "items": (), "texts": (), "p_value": None}
    broken = success_row("mean_difference", 20, 0, status="failed", reason="NaN in a loss", **lost)
    rows = [row for row in run() if row.key != broken.key]
    remarks = verdict([*rows, broken]).remarks
    assert "Of 1 cell, something could not be measured: mean_difference at layer 20 (NaN in a loss)." in remarks


def test_cost_that_could_not_be_measured_is_told():
    lost = {"value": None, "low": None, "high": None, "n": 0, "items": (), "status": "failed", "reason": "NaN"}
    broken = damage_row("mean_difference", 20, 0.05, **lost)
    rows = [broken if row.key == broken.key else row for row in run()]
    assert told(rows, "mean_difference").endswith("At 1 where it steers, that could not be measured.")


def test_without_an_unsteered_run_there_is_no_verdict():
    rows = [dataclasses.replace(row, p_value=None) for row in run() if row.method != "unsteered"]
    found = verdict(rows)
    assert found.headline == "Nothing could be tested."
    assert "was not measured" in found.lead


def test_rows_of_other_circumstances_are_studies_of_their_own():
    rows = [*run(), *run(seed=1), *run(measurement={"rollouts": ROLLOUTS, "split": "development"})]
    found = studies_of(rows, 0.01)
    assert [entry.name for entry in found] == ["seed 0", "seed 1"]
    assert [len(entry.tested) for entry in found] == [6, 6]


def test_cost_is_kept_to_the_bound_where_its_upper_bound_is():
    interval = {"value": 0.095, "low": 0.05, "high": 0.14}
    costly = [damage_row("mean_difference", 8, 0.0, items=tuple(np.linspace(0, 0.19, 11)), **interval)]
    rows = [row for row in run() if (row.method, row.layer, row.metric) != ("mean_difference", 8, costly[0].metric)]
    assert "at 0 of 2" in told([*rows, *costly], "mean_difference")


def test_detectable_rise_is_adjusted_over_the_cells_that_share_the_level():
    rise = minimum_detectable_difference(ROLLOUTS, 0.1, alpha=0.01, cells=6)
    told = detectable_in(study(run()))
    assert told.startswith(f"With 40 rollouts, a rise of P(success) by {rise:.3f} above the unsteered 0.100 is")
    assert "(level 0.01 over 6 cells)" in told


def test_nothing_can_rise_above_an_unsteered_run_that_always_succeeds():
    told = detectable(200, 1.0, 0.01, 3)
    assert told == "With 200 rollouts, every unsteered one of which succeeded, no rise of P(success) is possible."


def test_rollouts_that_are_too_few_to_find_anything_are_told():
    few = [unsteered(items=(0.0,) * 5, n=5, value=0.0, low=0.0, high=0.4)]
    few += [success_row("mean_difference", 8, 30, items=(1.0,) * 5, n=5, p_value=0.03125, value=1.0, low=0.6, high=1.0)]
    [missed] = verdict(few).remarks
    assert "With 5 rollouts, no rise of P(success) above the unsteered 0.000, however large, is found" in missed
    assert "(level 0.01 over 1 cell): sample more rollouts." in missed


@pytest.mark.parametrize(
    ("p_controls", "told"),
    [
        ((None, None), "2 of 2 methods steer."),
        ((0.5, None), "2 of 2 methods steer, but none is shown to be above its control."),
        ((1e-6, 0.5), "2 of 2 methods steer, 1 of them also above its control."),
        ((1e-6, 1e-6), "2 of 2 methods steer, 2 of them also above their control."),
        ((0.5,), "1 of 1 method steers, but it is not shown to be above its control."),
    ],
)
def test_headline_says_whether_what_steers_is_above_its_control(p_controls, told):
    methods = zip(("mean_difference", "feature_delta"), p_controls, strict=False)
    rows = [success_row(method, 8, 30, p_control=p_control) for method, p_control in methods]
    assert verdict([unsteered(), *rows]).headline == told


def test_of_layers_that_succeed_equally_the_lowest_is_the_best():
    rows = [unsteered(), *(success_row("mean_difference", layer, 30) for layer in (20, 8))]
    assert best_cell(study(rows).cells).layer == 8


def test_p_value_at_the_level_does_not_exceed_a_control():
    found = study(run())
    [cell, *_] = [cell for cell in found.cells if found.exceeds_control(cell)]
    assert not found.exceeds_control(dataclasses.replace(cell, p_control=0.01))
