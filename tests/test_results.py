"""Rows: what a run would not have written is refused, wherever a row is read back."""

from __future__ import annotations

import json
import time

import pytest

from steering.errors import ResultsError
from steering.journal import parse_row
from steering.results import new_run_name
from tests.small_rows import small_row

FEATURE = {"feature": 3, "weight": 1.0, "description": "kings"}


def line_of(**changes: object) -> str:
    """A row's line with some of its keys changed by hand."""
    return json.dumps(json.loads(small_row().to_json()) | changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"value": None}, "value, low, high: each is needed where the status is 'ok'"),
        ({"low": None}, "value, low, high: each is needed where the status is 'ok'"),
        ({"status": "failed"}, "value, low, high: given, though the status is 'failed'"),
        ({"low": 0.6}, "value: 0.5 is not between low, 0.6, and high, 0.75"),
        ({"high": 0.4}, "value: 0.5 is not between low, 0.25, and high, 0.4"),
        ({"high": 1e308}, "high: larger than 1e+100"),
        ({"items": [0.5, -1e200], "n": 2}, "items: larger than 1e+100"),
        ({"multiplier": -1e101}, "multiplier: larger than 1e+100"),
        ({"items": [0.5, 0.5]}, "n: 8, but there are 2 items"),
        ({"items": [0.5, 0.0], "n": 2}, "value: 0.5, but the mean of the items is 0.25"),
        ({"items": [2.0, -1.0], "n": 2}, "items: each is 0 or 1 where they are rollouts"),
        ({"n": 10_000_001}, "n: 10000001, and at most 10000000 items are read"),
        ({"features": [FEATURE | {"feature": -1}]}, "features: -1 with the weight 1 is no feature of an SAE"),
        ({"measurement": {"rollouts": "8"}}, "measurement.rollouts: '8' is not a whole number"),
        ({"features": [FEATURE | {"feature": 1 << 70}]}, "features: 1180591620717411303424 with the weight 1 is no "),
        ({"features": [FEATURE | {"weight": 1e101}]}, "features: 3 with the weight 1e+101 is no feature of an SAE"),
        ({"n": -1}, "n: -1 is not a number from 0 to 9223372036854775807"),
        ({"layer": 1 << 63}, "layer: 9223372036854775808 is not a number from 0 to 9223372036854775807"),
        ({"seed": -1}, "seed: -1 is not a number from 0 to 9223372036854775807"),
        ({"p_value": 1.5}, "p_value: 1.5 is not a probability"),
        ({"p_control": -0.1}, "p_control: -0.1 is not a probability"),
        ({"parameters": {"neutral_budget": [1]}}, "parameters.neutral_budget: not a number of at most 1e+100"),
        ({"parameters": {"neutral_budget": True}}, "parameters.neutral_budget: not a number of at most 1e+100"),
        ({"parameters": {"development_loss_change": "0"}}, "parameters.development_loss_change: not a number of at"),
        ({"parameters": {"scaled_multiplier": 10**400}}, "parameters.scaled_multiplier: not a number of at most 1e+"),
    ],
)
def test_row_that_contradicts_itself_is_refused(changes, fault):
    with pytest.raises(ResultsError) as caught:
        parse_row(line_of(**changes))
    assert str(caught.value).startswith(f"not a results row: {fault}")


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_row_without_a_value_is_read(status):
    row = small_row(value=None, status=status, reason="why", n=0)
    assert parse_row(row.to_json()) == row


def test_ends_of_an_interval_may_be_the_value():
    row = small_row(value=0.5, low=0.5, high=0.5)
    assert parse_row(row.to_json()) == row


def test_row_with_a_key_twice_is_refused():
    line = small_row().to_json().replace('"n": 8', '"n": 8, "n": 8')
    with pytest.raises(ResultsError, match="not a results row: the key 'n' occurs more than once"):
        parse_row(line)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_row_whose_settings_are_no_json_is_refused(number):
    line = small_row().to_json().replace('"parameters": {', f'"parameters": {{"x": {number}, ', 1).replace(", }", "}")
    with pytest.raises(ResultsError, match="not a results row: parameters or measurement hold NaN or infinity"):
        parse_row(line)


def test_runs_of_one_second_have_names_of_their_own_in_their_order():
    names = []
    for _ in range(5):
        names.append(new_run_name())
        time.sleep(0.001)
    assert names == sorted(set(names))
