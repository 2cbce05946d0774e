"""Methods that are sums over features: which features, with which weights, and what they decode to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steering.errors import SaeError
from steering.journal import parse_row
from steering.methods import construct, create_method
from tests.planted import CROWN, KING, QUEEN, dense, planted_activations, planted_direction, planted_sae
from tests.small_rows import small_row
from tests.small_saes import D_SAE


@pytest.fixture(scope="module")
def activations():
    return planted_activations(planted_direction())


@pytest.mark.parametrize("tokens", ["mean", "max", "last"])
@pytest.mark.parametrize(("pairs", "over_pairs"), [("mean", np.mean), ("max", np.max)])
def test_feature_delta_is_the_change_times_the_decoder_without_its_bias(activations, tokens, pairs, over_pairs):
    """With tokens and pairs "max" it is the published script's: the largest of any text on either side."""
    positive, negative = (over_pairs(side, axis=0) for side in dense(activations, tokens))
    decoder = planted_sae(5, torch.float32)._lens.W_dec.detach().double().numpy()
    found = create_method("feature_delta", {"tokens": tokens, "pairs": pairs}).fit(activations, 5)
    np.testing.assert_allclose(found.numpy(), (positive - negative) @ decoder, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("top", [1, 2, 10, D_SAE, 1000])
def test_feature_delta_keeps_the_features_that_change_most(activations, top):
    positive, negative = dense(activations, "mean")
    change = (positive - negative).mean(axis=0)
    change[np.abs(change).argsort()[: max(0, D_SAE - top)]] = 0
    found = create_method("feature_delta", {"top": top}).weights(activations, 5).numpy()
    np.testing.assert_allclose(found, change, rtol=1e-4, atol=1e-6)
    assert set(np.flatnonzero(found)[:2]) <= {KING, QUEEN} or top > 2


def test_row_of_chosen_features_is_read_back_as_the_same_measurement(activations):
    parameters = {"ids": {"2": [0, KING], "5": [KING], "10": [KING, QUEEN]}}  # as text, 10 comes before 2
    vector = construct("hand_crafted", activations, 5, parameters)
    row = small_row(parameters=dict(vector.parameters))
    assert parse_row(row.to_json()) == row
    assert parse_row(row.to_json()).key == row.key


def test_hand_crafted_features_keep_their_own_change_and_its_sign(activations):
    positive, negative = dense(activations, "mean")
    change = (positive - negative).mean(axis=0)
    for parameters, chosen in (
        ({}, {KING, QUEEN}),
        ({"keywords": ["queen"]}, {QUEEN}),
        ({"keywords": ["CROWNS", "king"], "tokens": "mean"}, {KING}),  # all pairs share the crown
        ({"ids": {"5": [0, KING]}, "keywords": ["queen"]}, {0, KING}),
        ({"ids": {"3": [0]}, "keywords": ["queen"]}, {QUEEN}),
        ({"ids": {"5": [0, KING, QUEEN]}, "top": 2}, {KING, QUEEN}),
    ):
        found = create_method("hand_crafted", parameters).weights(activations, 5).numpy()
        assert set(np.flatnonzero(found)) == chosen
        np.testing.assert_allclose(found[list(chosen)], change[list(chosen)], rtol=1e-4)
    assert change[KING] > 0.9
    assert change[QUEEN] < -0.9


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"keywords": ["prince"]}, r"no feature's description holds any of 'prince' \(4 descriptions in words\)"),
        ({"ids": {"5": [KING, 64]}}, r"feature 64: SAE .* has the features 0 to 63"),
        ({"ids": {"5": [-1]}}, r"feature -1: SAE .* has the features 0 to 63"),
        ({"ids": {"5": [CROWN]}}, "layer 5: none of the 1 chosen features differs between the two sides"),
        ({"ids": {"5": []}}, "layer 5: none of the 0 chosen features differs"),
    ],
)
def test_hand_crafted_features_that_are_none_are_refused(activations, parameters, message):
    with pytest.raises(SaeError, match=message):
        construct("hand_crafted", activations, 5, parameters)


@pytest.mark.parametrize(
    "reference", [("feature_delta", {"top": 9}), ("hand_crafted", {"keywords": ["king", "noise"]})]
)
def test_random_features_are_as_many_others_with_the_same_weights(activations, reference):
    given_weights = create_method(*reference).weights(activations, 5).numpy()
    name, parameters = reference
    drawn = [
        create_method("random_features", {"reference": name, "parameters": parameters, "seed": seed}).weights(
            activations, layer
        )
        for seed, layer in ((0, 5), (1, 5), (0, 3))
    ]
    for weights in drawn[:2]:
        assert sorted(weights[weights != 0].tolist()) == sorted(given_weights[given_weights != 0].tolist())
        assert not set(np.flatnonzero(weights)) & set(np.flatnonzero(given_weights))
    assert len({tuple(np.flatnonzero(weights)) for weights in drawn}) == 3


def test_random_features_of_a_method_that_uses_most_are_its_weights_shuffled(activations):
    given_weights = create_method("feature_delta", {}).weights(activations, 5)
    drawn = create_method("random_features", {}).weights(activations, 5)
    assert int((given_weights != 0).sum()) == D_SAE - 1, "all but the crown"
    assert sorted(drawn.tolist()) == sorted(given_weights.tolist())
    assert int((drawn != given_weights).sum()) > D_SAE / 2


def test_a_vector_of_features_names_the_heaviest_with_their_descriptions(activations):
    positive, negative = dense(activations, "mean")
    change = (positive - negative).mean(axis=0)
    features = construct("feature_delta", activations, 5).features
    order = np.abs(change).argsort()[::-1][:20].tolist()
    assert [found.feature for found in features] == order
    np.testing.assert_allclose([found.weight for found in features], change[order], rtol=1e-4)
    assert {(found.feature, found.description) for found in features[:2]} == {
        (KING, "about a king"),
        (QUEEN, "about a queen"),
    }
    assert {found.description for found in features[2:]} <= {"", "noise"}
    two = construct("hand_crafted", activations, 5).features
    assert [found.feature for found in two] == order[:2]
    assert construct("mean_difference", activations, 5).features == ()
