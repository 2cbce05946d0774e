"""Tables of rows that were measured under different circumstances: a column says in what they differ."""

from __future__ import annotations

import pytest

from steering.feature_weights import FeatureWeight
from steering.results import SAE
from steering.tables.cells import feature_summary, sae_summary, summary
from tests.small_rows import configuration, quality, small_row
from tests.tables.test_tables import SAE_HEADINGS

MIXED = [
    ({"dtype": "bfloat16"}, "dtype float32", "dtype bfloat16"),
    ({"model": "other", "model_hash": "d", "seed": 7}, "model small, seed 0", "model other, seed 7"),
]


@pytest.mark.parametrize(("change", "before", "after"), MIXED)
def test_saes_measured_under_different_circumstances_say_in_what_they_differ(change, before, after):
    rows = [*quality(), *quality(**change)]
    lines = sae_summary([*rows, *configuration(concept="age", data_hash="d")])
    assert lines[0] == ["run", *SAE_HEADINGS]
    assert sorted(line[0] for line in lines[1:]) == sorted([before, after])
    assert [line[1:] for line in lines] == [*sae_summary(quality()), sae_summary(quality())[1]]
    assert [line[:-1] for line in sae_summary(rows, {(SAE, 8): "holds"})] == lines


@pytest.mark.parametrize(("change", "before", "after"), MIXED)
def test_features_of_vectors_of_different_runs_say_in_what_they_differ(change, before, after):
    first, second = (FeatureWeight(number, 2.5, "word") for number in (7, 3))
    rows = [*configuration(features=(first,)), *configuration(features=(second, first), **change)]
    lines = feature_summary([*rows, *configuration(concept="age", data_hash="d"), *quality(toward="negative")])
    assert lines[0] == ["run", "method", "layer", "feature", "weight", "description"]
    assert sorted((line[0], line[3]) for line in lines[1:]) == sorted([(before, "7"), (after, "3"), (after, "7")])


def test_setting_that_only_some_rows_know_is_a_dash_elsewhere():
    lines = summary([small_row(), small_row(measurement={"rollouts": 8})])
    assert {line[0] for line in lines[1:]} == {"top_p 0.95", "top_p -"}


def test_rows_that_do_not_say_were_measured_on_the_test_split():
    told = {"rollouts": 8, "top_p": 0.95}
    assert summary([small_row(), small_row(layer=3, measurement={"split": "test"} | told)])[0][0] == "method"
    lines = summary([small_row(), small_row(measurement=told | {"split": "development"})])
    assert {line[0] for line in lines[1:]} == {"split test", "split development"}
