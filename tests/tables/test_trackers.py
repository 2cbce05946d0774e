"""What services read that follow numbers over commits: held against the schemas in their documentation."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.tables.trackers import to_bencher, to_benchmark_action
from tests.small_rows import configuration, quality, small_row, unsteered_row

NUMBER = {"type": "number"}
# https://bencher.dev/docs/reference/bencher-metric-format: three objects in each other, lengths of names as said there.
METRIC = {
    "type": "object",
    "properties": {"value": NUMBER, "lower_value": NUMBER, "upper_value": NUMBER},
    "required": ["value"],
    "additionalProperties": False,
}
MEASURES = {"type": "object", "propertyNames": {"minLength": 1, "maxLength": 64}, "additionalProperties": METRIC}
BENCHER = {"type": "object", "propertyNames": {"minLength": 1, "maxLength": 1024}, "additionalProperties": MEASURES}
# https://github.com/benchmark-action/github-action-benchmark: name, unit and value are required, two more are optional.
TEXT = {"type": "string"}
ACTION = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": TEXT, "unit": TEXT, "value": NUMBER, "range": TEXT, "extra": TEXT},
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
    },
}
SIDES = ("bigger", "smaller")
finite = st.floats(-700, 700)


def bencher(rows):
    found = json.loads(to_bencher(rows), parse_constant=pytest.fail)
    jsonschema.validate(found, BENCHER)
    return found


def action(rows, better):
    found = json.loads(to_benchmark_action(rows, better), parse_constant=pytest.fail)
    jsonschema.validate(found, ACTION)
    names = [entry["name"] for entry in found]
    assert len(set(names)) == len(names), "the action finds the value before by its name"
    return {entry["name"]: entry for entry in found}


def test_bencher_has_a_benchmark_for_each_cell_and_a_measure_for_each_metric():
    rows = [unsteered_row(value=0.1, low=0.05, high=0.2), *configuration(layer=20), *configuration(layer=8)]
    found = bencher(rows)
    assert list(found) == ["unsteered", "mean_difference-layer20", "mean_difference-layer8"]
    assert found["unsteered"] == {"rollout_probability": {"value": 0.1, "lower_value": 0.05, "upper_value": 0.2}}
    assert set(found["mean_difference-layer8"]) == {row.metric for row in configuration()}


@settings(max_examples=20)
@given(name=st.text(st.characters(codec="utf-8"), max_size=5), times=st.integers(0, 600), value=finite)
def test_formats_are_kept_whatever_the_names_and_values(name, times, value):
    rows = [small_row(method="m" + name * times, value=value, low=value, high=value), *quality()]
    rows += [small_row(metric="loss_change_neutral", value=value, low=None, high=None)]
    assert len(bencher(rows)) == 3
    for side in SIDES:
        action(rows, side)


def test_values_have_full_precision():
    value = 0.1 + 0.2
    assert bencher([small_row(value=value)])["mean_difference-layer1"]["rollout_probability"]["value"] == value
    assert action([small_row(value=value)], "bigger")["mean_difference-layer1 rollout_probability"]["value"] == value


def test_action_gets_what_is_better_bigger_or_smaller():
    rows = [*configuration(layer=20), *quality()]
    bigger, smaller = (action(rows, side) for side in SIDES)
    assert set(bigger) == {
        "mean_difference-layer20 rollout_probability",
        "saes/layer8-layer8 sae_variance_explained",
        "saes/layer8-layer8 sae_loss_recovered",
    }
    assert set(smaller) == {
        "mean_difference-layer20 neutral_perplexity_ratio",
        *(f"saes/layer8-layer8 sae_{name}" for name in ("l0", "spliced_loss", "silent_features")),
    }
    entry = bigger["mean_difference-layer20 rollout_probability"]
    assert entry["range"] == "0.25 to 0.75"
    assert "n = 8" in entry["extra"]


def test_change_of_the_neutral_loss_is_followed_as_a_ratio_of_perplexities():
    row = small_row(metric="loss_change_neutral", value=-0.02, low=-0.05, high=0.05)
    [entry] = action([row], "smaller").values()
    unsteered = 3.0
    assert entry["value"] == pytest.approx(math.exp(unsteered - 0.02) / math.exp(unsteered))
    assert entry["range"] == "0.9512 to 1.051"


def test_ratio_beyond_every_number_is_left_out():
    row = small_row(metric="loss_change_neutral", value=700.0, low=-5.0, high=720.0)
    [entry] = action([row], "smaller").values()
    assert "range" not in entry
    assert action([replace(row, value=710.0)], "smaller") == {}


def test_controls_and_the_unsteered_run_are_neither_better_nor_worse():
    rows = [unsteered_row(), unsteered_row(metric="loss_neutral"), *configuration(is_control=True)]
    assert [action(rows, side) for side in SIDES] == [{}, {}]
    assert len(bencher(rows)) == 2


def test_what_was_not_measured_or_on_the_development_split_is_left_out():
    there = small_row(measurement={"split": "development"})
    failed = small_row(value=None, low=None, high=None, status="failed", reason="NaN")
    assert bencher([there, failed]) == {}
    assert list(bencher([there, small_row()])) == ["mean_difference-layer1"], "its name does not depend on the other's"


def test_cells_that_share_method_and_layer_have_names_of_their_own():
    doses = [small_row(multiplier=dose) for dose in (3.0, 12.0)]
    assert list(bencher(doses)) == ["mean_difference ×3-layer1", "mean_difference ×12-layer1"]
    assert list(bencher([small_row(), small_row(seed=7)])) == [
        "mean_difference-layer1, seed 0",
        "mean_difference-layer1, seed 7",
    ]
    assert len(bencher([small_row(parameters={"top": top}) for top in range(3)])) == 3
