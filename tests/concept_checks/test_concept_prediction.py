"""What is predicted of planted activations: a direction, none, and one that test pairs do not share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from steering import stats
from steering.activations import ContrastActivations
from steering.concept_checks.prediction import LIMITS, Promise, predict, prediction_table, sentences
from steering.errors import DataError
from tests.planted import planted_activations, planted_direction, swapped


@pytest.fixture(scope="module")
def predicted():
    direction = planted_direction() * 0.3
    return predict(planted_activations(direction, 40), planted_activations(direction, 30, seed=1))


def test_planted_layer_is_told_from_noise(predicted):
    assert [entry.layer for entry in predicted] == [3, 5]
    assert [entry.promise for entry in predicted] == [Promise.CHANCE, Promise.HELD_OUT]
    assert abs(predicted[0].agreement) < predicted[0].by_chance
    assert predicted[1].agreement > 0.5


def test_numbers_are_those_of_the_activations(predicted):
    """Computed again, with loops."""
    generation, test = (planted_activations(planted_direction() * 0.3, n, seed=s) for n, s in ((40, 0), (30, 1)))
    differences = (generation.positive - generation.negative)[:, 1].double()
    cosines = [
        torch.cosine_similarity(row, differences[[other for other in range(40) if other != number]].mean(0), dim=0)
        for number, row in enumerate(differences)
    ]
    assert predicted[1].agreement == pytest.approx(float(torch.stack(cosines).mean()), abs=1e-6)
    mean = differences.mean(0)
    positive, negative = (side[:, 1].double() @ mean for side in (test.positive, test.negative))
    area = np.mean([[float(one > other) for other in negative] for one in positive])
    assert predicted[1].separation[0] == pytest.approx(area)
    right = (positive > negative).double().numpy()
    assert predicted[1].right == (right.mean(), *stats.proportion_interval(right))


def test_p_values_are_adjusted_over_the_layers(predicted):
    """No swap reaches the planted layer: 1 of 10,000, for either of two layers."""
    assert predicted[1].p_value == pytest.approx(2 / 10_000)


def test_p_value_can_fall_below_the_level_with_many_layers():
    one = planted_activations(planted_direction() * 10, 20)
    sides = (side[:, 1:].repeat(1, 110, 1) for side in (one.positive, one.negative))
    deep = ContrastActivations(*sides, tuple(range(110)), one.pair_ids, "planted", "none")
    assert {entry.promise for entry in predict(deep, deep)} == {Promise.HELD_OUT}


def test_direction_that_the_test_does_not_share_is_not_recommended():
    generation, test = (planted_activations(planted_direction() * 0.3, n, seed=s) for n, s in ((40, 0), (30, 1)))
    [_, entry] = predict(generation, swapped(test))
    assert entry.promise is Promise.NOT_HELD_OUT
    assert entry.separation[0] < 0.5


def test_swapping_all_sides_changes_nothing(predicted):
    direction = planted_direction() * 0.3
    sides = swapped(planted_activations(direction, 40)), swapped(planted_activations(direction, 30, seed=1))
    for entry, other in zip(predicted, predict(*sides), strict=True):
        assert other.agreement == pytest.approx(entry.agreement, abs=1e-9)
        assert other.separation[0] == pytest.approx(entry.separation[0])
        assert other.p_value == entry.p_value


def test_few_pairs_show_nothing_however_alike_they_are():
    """Five can be swapped in 16 ways that differ, one of which is none at all."""
    five = planted_activations(planted_direction() * 10, 5)
    [_, entry] = predict(five, five)
    assert entry.agreement > 0.99
    assert entry.promise is Promise.CHANCE


@pytest.mark.parametrize(("pairs", "verdict"), [(7, Promise.NOT_HELD_OUT), (8, Promise.HELD_OUT)])
def test_few_test_pairs_do_not_show_that_sides_can_be_told_apart(pairs, verdict):
    """All lie the right way round at one of two layers: by chance that has a probability of 2 to the power of -n."""
    direction = planted_direction() * 10
    [_, entry] = predict(planted_activations(direction, 40), planted_activations(direction, pairs, seed=1))
    assert (entry.right[0], entry.p_right) == (1.0, pytest.approx(2 * 0.5**pairs))
    assert entry.promise is verdict


def test_single_pair_is_refused():
    one = planted_activations(planted_direction(), 1)
    with pytest.raises(DataError, match="cannot be told of a single generation pair"):
        predict(one, one)


def test_pairs_that_do_not_differ_agree_in_nothing():
    same = planted_activations(planted_direction(), 10)
    same = dataclasses.replace(same, negative=same.positive)
    for entry in predict(same, same):
        assert (entry.agreement, entry.separation[0], entry.right[0]) == (0.0, 0.5, 0.0)
        assert entry.promise is Promise.CHANCE


def test_table_and_sentences(predicted):
    table = prediction_table(predicted)
    ends = ["AUC [95 % CI]", "pairs right [95 % CI]", "p right (Holm)"]
    assert table[0] == ["layer", "agreement", "by chance", "p (Holm)", *ends]
    assert [line[0] for line in table[1:]] == ["3", "5"]
    first, second = sentences(predicted)
    assert first.startswith("Layer 3: it is not shown that pairs agree more than by chance")
    assert second.startswith("Layer 5: pairs agree, and their mean difference tells the sides of test pairs apart")
    again = [dataclasses.replace(predicted[1], layer=layer) for layer in (5, 6, 7)]
    assert [line[:16] for line in sentences([predicted[0], *again])] == ["Layer 3: it is n", "Layers 5–7: pair"]


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ([8], "Layer 8:"),
        ([8, 9], "Layers 8–9:"),
        ([8, 20], "Layers 8, 20:"),
        ([8, 9, 10], "Layers 8–10:"),
        ([8, 12, 13], "Layers 8, 12–13:"),
    ],
)
def test_sentences_name_no_layer_that_was_not_looked_at(predicted, layers, told):
    [line] = sentences([dataclasses.replace(predicted[1], layer=layer) for layer in layers])
    assert line.startswith(told)


def test_limits_say_that_agreement_is_not_steering():
    assert "does not show that steering works" in LIMITS
    assert "hardly steers" in LIMITS
