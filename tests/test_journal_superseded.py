"""What was measured again: another vector of the same settings, and one that could not be constructed."""

from __future__ import annotations

import pytest

from steering.journal import Journal, load_rows
from steering.results import SAE
from tests.small_rows import small_row, unsteered_row

FAILED = {"status": "failed", "reason": "no feature", "value": None, "n": 0, "low": None, "high": None, "p_value": None}


def without_vector(**changes: object):
    """What is written where no vector could be constructed: the plan's dose and parameters, and no hash."""
    return small_row(**(FAILED | {"vector_hash": "", "vector_norm": None, "parameters": {"top": 3}} | changes))


def test_failed_construction_gives_way_to_a_later_measurement_of_the_cell(tmp_path):
    later = small_row(run="run-2", multiplier=1.25, parameters={"top": 3, "construction": "feature_delta"})
    Journal(tmp_path).append([without_vector(), later])
    assert load_rows(tmp_path) == [later]


def test_doses_that_failed_stay_beside_each_other(tmp_path):
    rows = [without_vector(multiplier=multiplier) for multiplier in (6.0, 12.0, 18.0)]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows
    made = small_row(run="run-2", multiplier=6.0, parameters={"top": 3, "construction": "feature_delta"})
    Journal(tmp_path).append([made])
    assert load_rows(tmp_path) == [made]


def test_failed_construction_after_a_measurement_is_kept_beside_it(tmp_path):
    rows = [small_row(), without_vector(run="run-2")]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows


@pytest.mark.parametrize(
    "other",
    [
        {"layer": 2},
        {"method": "other"},
        {"metric": "loss_neutral"},
        {"seed": 1},
        {"measurement": {"n": 1}},
        {"parameters": {"top": 3, "neutral_budget": 0.05}},
    ],
)
def test_failed_construction_stays_where_something_else_was_measured_later(tmp_path, other):
    rows = [without_vector(), small_row(run="run-2", **other)]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows


def test_failed_sae_stays_beside_another_of_its_layer(tmp_path):
    one, two = ({"method": SAE, "vector_hash": "", "parameters": {"sae": name}} for name in ("one", "two"))
    rows = [small_row(**(FAILED | one)), small_row(**two)]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows


def test_what_was_measured_again_comes_after_what_was_measured_before_that(tmp_path):
    good, broken, repaired = (
        small_row(multiplier=multiplier, value=value) for multiplier, value in ((1.0, 0.5), (2.0, 0.1), (1.0, 0.5))
    )
    Journal(tmp_path).append([good, broken, repaired])
    assert [row.multiplier for row in load_rows(tmp_path)] == [2.0, 1.0]


BUDGET, SCALED = {"neutral_budget": 0.05}, {"norm_of": "mean_difference", "scaled_multiplier": 12.0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"vector_hash": "d" * 64}),
        ({"parameters": BUDGET, "multiplier": 12.0}, {"parameters": BUDGET, "multiplier": 8.0}),
        ({"parameters": SCALED, "multiplier": 40.0}, {"parameters": SCALED, "multiplier": 40.1}),
    ],
    ids=["vector", "dose", "norm"],
)
def test_other_outcome_of_the_same_settings_takes_the_place_of_all_that_was_measured_before(tmp_path, before, after):
    later = small_row(run="run-2", **after)
    Journal(tmp_path).append([small_row(**before), small_row(metric="loss_neutral", **before), later])
    assert load_rows(tmp_path) == [later]


def test_returning_to_an_earlier_vector_counts_as_measured_last(tmp_path):
    rows = [small_row(run=f"run-{number}", vector_hash=letter * 64) for number, letter in enumerate("cdc")]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == [rows[2]]


def test_doses_of_one_method_that_were_asked_for_stay_beside_each_other(tmp_path):
    rows = [small_row(multiplier=1.0), small_row(multiplier=2.0, vector_hash="d" * 64)]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows


def test_what_a_dose_cost_is_no_setting():
    rounded, other = (small_row(parameters=BUDGET | {"development_loss_change": change}) for change in (0.04, 0.040001))
    assert rounded.key == other.key


def test_skipped_metric_of_a_cell_without_a_vector_gives_way_too(tmp_path):
    skipped = {"metric": "one_word_changed", "status": "skipped", "reason": "no prompts", "value": None, "n": 0}
    made = {"parameters": {"top": 3, "construction": "feature_delta"}}
    rows = [without_vector(**skipped), without_vector(), small_row(**made), small_row(**skipped, **made)]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows[2:]


def test_the_last_measurement_of_a_value_counts_and_the_others_stay(tmp_path):
    first, other = small_row(value=0.25), small_row(metric="loss_positive", value=3.0)
    Journal(tmp_path).append([unsteered_row(), first, other])
    again = small_row(value=0.75, run="run-2", items=(1.0, 1.0, 1.0, 0.0))
    Journal(tmp_path).append([again])
    found = load_rows(tmp_path)
    assert len(found) == 3
    assert all(row in found for row in (unsteered_row(), again, other))
