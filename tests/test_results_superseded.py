"""Rows of a vector that could not be constructed, beside later rows of the same cell."""

from __future__ import annotations

import pytest

from steering.results import SAE, Journal, load_rows
from tests.small_rows import small_row

FAILED = {"status": "failed", "reason": "no feature", "value": None, "n": 0, "low": None, "high": None, "p_value": None}


def without_vector(**changes: object):
    """What is written where no vector could be constructed: the plan's dose and parameters, and no hash."""
    return small_row(**(FAILED | {"vector_hash": "", "vector_norm": None, "parameters": {"top": 3}} | changes))


def test_failed_construction_gives_way_to_a_later_measurement_of_the_cell(tmp_path):
    later = small_row(run="run-2", multiplier=1.25, parameters={"top": 3, "construction": "feature_delta"})
    Journal(tmp_path).append([without_vector(), later])
    assert load_rows(tmp_path) == [later]


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


def test_budget_of_a_damaged_row_may_be_anything(tmp_path):
    row = without_vector(parameters={"neutral_budget": [1]})
    Journal(tmp_path).append([row])
    assert load_rows(tmp_path) == [row]


def test_failed_sae_stays_beside_another_of_its_layer(tmp_path):
    one, two = ({"method": SAE, "vector_hash": "", "parameters": {"sae": name}} for name in ("one", "two"))
    rows = [small_row(**(FAILED | one)), small_row(**two)]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows


def test_what_was_measured_again_comes_after_what_was_measured_before_that(tmp_path):
    good, broken, repaired = (
        small_row(vector_hash=name, value=value) for name, value in (("a", 0.5), ("b", 0.1), ("a", 0.5))
    )
    Journal(tmp_path).append([good, broken, repaired])
    assert [row.vector_hash for row in load_rows(tmp_path)] == ["b", "a"]
