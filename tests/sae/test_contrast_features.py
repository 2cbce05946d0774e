"""Feature activations of contrast pairs, against dense arrays and against the model run text by text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from steering.activations import ContrastActivations, FeatureReader, capture_pairs
from steering.concepts import ContrastPair
from steering.errors import SaeError, SteeringError
from steering.models.tokens import tokenize_continuation
from steering.sae.contrast_features import ContrastFeatures, FeatureReduction, largest
from steering.sae.features import Descriptions
from tests.small_models import small_model
from tests.small_saes import D_MODEL, D_SAE, small_sae

RULES = ("mean", "max", "last")
PAIRS = (
    ContrastPair("a", "The ruler", "was a king of the story.", "was a queen."),
    ContrastPair("b", "Long ago there lived", "a boy.", "the girl with a long story, a queen of the land."),
    ContrastPair("c", "A", "man", "woman"),
)
KNOWN = Descriptions("known", {3: "about kings"})


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    return small_sae(tmp_path_factory.mktemp("sae"), "topk")


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """SAEs of both layers of the small models, the first centred."""
    root = tmp_path_factory.mktemp("saes")
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    first = small_sae(root / "0", "jumprelu", hook_name="blocks.1.hook_resid_pre", metadata=kwargs)
    return (first, small_sae(root / "1", "topk", seed=1))


def reduced(tokens: np.ndarray, rule: str) -> np.ndarray:
    """One text's codes `[token, d_sae]` as one row."""
    return {"mean": tokens.mean(axis=0), "max": tokens.max(axis=0), "last": tokens[-1]}[rule]


def in_numpy(positive: np.ndarray, negative: np.ndarray, pairs: str) -> np.ndarray:
    """The difference of two dense sides `[pair, d_sae]`."""
    axis = {"mean": np.mean, "max": np.max}[pairs]
    return axis(positive.astype(np.float64), axis=0) - axis(negative.astype(np.float64), axis=0)


def features_of(sae, positive: np.ndarray, negative: np.ndarray) -> ContrastFeatures:
    sides = ({rule: csr_array(side[rule]) for rule in RULES} for side in (positive, negative))
    return ContrastFeatures(*sides, sae, KNOWN, ("king",))


def sparse_sides(generator: np.random.Generator, pairs: int) -> list[dict[str, np.ndarray]]:
    """Random codes, most of them 0; some columns are all positive, some all negative, some never 0."""
    sides = []
    for _ in range(2):
        side = {}
        for rule in RULES:
            values = generator.normal(size=(pairs, D_SAE)) * (generator.random((pairs, D_SAE)) < 0.2)
            values[:, :5] = np.abs(generator.normal(size=(pairs, 5))) + 0.1
            values[:, 5:9] = -np.abs(generator.normal(size=(pairs, 4))) - 0.1
            side[rule] = values.astype(np.float32)
        sides.append(side)
    return sides


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from(RULES), st.sampled_from(["mean", "max"]))
def test_the_difference_equals_dense_numpy(sae, seed, pairs, tokens, pair_rule):
    positive, negative = sparse_sides(np.random.default_rng(seed), pairs)
    found = features_of(sae, positive, negative).difference(tokens, pair_rule)
    assert (found.dtype, found.shape) == (torch.float32, (D_SAE,))
    np.testing.assert_allclose(
        found.numpy(), in_numpy(positive[tokens], negative[tokens], pair_rule), rtol=1e-5, atol=1e-6
    )
    back = features_of(sae, negative, positive).difference(tokens, pair_rule)
    assert torch.equal(back, -found)


def test_the_default_difference_is_the_mean_over_tokens_and_pairs(sae):
    positive, negative = sparse_sides(np.random.default_rng(0), 4)
    features = features_of(sae, positive, negative)
    assert torch.equal(features.difference(), features.difference("mean", "mean"))


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_a_reduction_equals_each_rule_over_dense_codes(sae, batches, seed):
    """Texts come in batches, in any order, with continuations of any length."""
    generator = np.random.default_rng(seed)
    lengths = [length for batch in batches for length in batch]
    order = generator.permutation(len(lengths)).tolist()
    streams = [torch.from_numpy(generator.normal(size=(length, D_MODEL)) * 2).float() for length in lengths]
    reduction, start = FeatureReduction(sae, len(lengths)), 0
    for batch in batches:
        part = slice(start, start + len(batch))
        reduction.add(order[part], streams[part])
        start += len(batch)
    codes = [sae.encode(stream).numpy() for stream in streams]
    matrices = reduction.matrices()
    assert matrices.keys() == set(RULES)
    for rule, found in matrices.items():
        expected = np.zeros((len(lengths), D_SAE))
        for text, tokens in zip(order, codes, strict=True):
            expected[text] = reduced(tokens, rule)
        assert found.dtype == np.float32
        assert found.nnz == np.count_nonzero(expected)
        np.testing.assert_allclose(found.toarray(), expected, rtol=1e-4, atol=1e-5)


def test_texts_that_were_never_added_are_refused(sae):
    reduction = FeatureReduction(sae, 5)
    reduction.add([0, 3], [torch.ones(2, D_MODEL), torch.ones(1, D_MODEL)])
    with pytest.raises(SteeringError, match="3 texts have no feature activations"):
        reduction.matrices()


def test_a_text_on_which_nothing_fires_is_a_row_of_zeros(tmp_path):
    silent = small_sae(tmp_path / "sae", weights={"b_enc": torch.full((D_SAE,), -1e6)})
    reduction = FeatureReduction(silent, 2)
    reduction.add([0, 1], [torch.ones(2, D_MODEL), torch.ones(1, D_MODEL)])
    matrix = reduction.matrices()["max"]
    assert (matrix.nnz, matrix.shape) == (0, (2, D_SAE))
    rows = {"mean": matrix, "max": matrix, "last": matrix}
    found = ContrastFeatures(rows, rows, silent, KNOWN, ()).difference("max", "max")
    assert found.tolist() == [0.0] * D_SAE


@given(st.integers(0, 2**32 - 1), st.integers(1, 80))
def test_largest_keeps_those_of_largest_absolute_value(seed, count):
    weights = np.random.default_rng(seed).permutation(np.arange(-32, 32)).astype(np.float32)
    found = largest(torch.from_numpy(weights), count).numpy()
    border = np.sort(np.abs(weights))[::-1][min(count, 64) - 1]
    assert np.count_nonzero(found) == min(count, 63)  # one of the 64 weights is 0
    assert set(np.abs(weights[np.abs(weights) > border])) <= set(np.abs(found))
    assert all(value in (0, weights[index]) for index, value in enumerate(found))
    assert np.array_equal(largest(torch.from_numpy(weights), None).numpy(), weights)


def codes_of_continuations(model, sae) -> dict[str, list[np.ndarray]]:
    """Side -> codes `[token, d_sae]` of each pair's continuation, each text run alone."""
    sides: dict[str, list[np.ndarray]] = {"positive": [], "negative": []}
    for pair in PAIRS:
        for side, found in sides.items():
            text = tokenize_continuation(model.tokenizer, pair.prompt, getattr(pair, side))
            [batch] = model.capture([text.ids], [sae.layer])
            inside = [position for position in range(len(text.ids)) if position >= text.prompt_length]
            found.append(sae.encode(batch.residuals[sae.layer][0][inside]).numpy())
    return sides


def test_captured_features_are_of_exactly_the_continuation_tokens(model, both):
    reader = FeatureReader([(sae, KNOWN) for sae in both], ("king",))
    activations = capture_pairs(model, PAIRS, [1], "royalty", reader=reader)
    assert activations.layers == (0, 1)
    for sae in both:
        features = activations.features_at(sae.layer)
        assert (features.sae, features.descriptions, features.keywords) == (sae, KNOWN, ("king",))
        sides = codes_of_continuations(model, sae)
        dense = {}
        for side, codes in sides.items():
            for rule in RULES:
                expected = np.array([reduced(tokens, rule) for tokens in codes])
                found = getattr(features, side)[rule].toarray()
                assert np.count_nonzero(found) > 10
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
                dense[side, rule] = expected
        for rule in RULES:
            for pair_rule in ("mean", "max"):
                expected = in_numpy(dense["positive", rule], dense["negative", rule], pair_rule)
                np.testing.assert_allclose(features.difference(rule, pair_rule).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_published_rule_is_the_largest_of_any_token_of_any_text(model, both):
    reader = FeatureReader([(both[1], KNOWN)])
    features = capture_pairs(model, PAIRS, [1], "royalty", reader=reader).features_at(1)
    sides = codes_of_continuations(model, both[1])
    high, low = (np.concatenate(sides[side]).max(axis=0) for side in ("positive", "negative"))
    np.testing.assert_allclose(features.difference("max", "max").numpy(), high - low, rtol=1e-3, atol=1e-3)


def test_a_continuation_of_one_token_has_one_value_whatever_the_rule(model, both):
    text = tokenize_continuation(model.tokenizer, PAIRS[2].prompt, PAIRS[2].positive)
    assert len(text.ids) - text.prompt_length == 1, "' man' is one token"
    reader = FeatureReader([(both[1], KNOWN)])
    features = capture_pairs(model, PAIRS, [1], "x", reader=reader).features_at(1)
    mean, largest_, last = (features.positive[rule].toarray()[2].tolist() for rule in RULES)
    assert mean == largest_ == last


def test_reading_features_leaves_the_last_tokens_streams_as_they_are(model, both):
    plain = capture_pairs(model, PAIRS, [0, 1], "x")
    with_saes = capture_pairs(model, PAIRS, [0, 1], "x", reader=FeatureReader([(sae, KNOWN) for sae in both]))
    assert torch.equal(plain.positive, with_saes.positive)
    assert torch.equal(plain.negative, with_saes.negative)
    assert dict(plain.features) == {}


def test_an_sae_that_does_not_fit_is_refused_before_the_model_runs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(type(model), "capture", lambda *_args: pytest.fail("the model was run"))
    deep = small_sae(tmp_path / "deep", hook_name="blocks.5.hook_resid_post")
    wide = small_sae(tmp_path / "wide", d_model=48)
    for sae, message in ((deep, "the output of block 5, but model .* blocks 0 to 1"), (wide, "width of 48")):
        with pytest.raises(SaeError, match=message):
            capture_pairs(model, PAIRS, [1], "x", reader=FeatureReader([(sae, KNOWN)]))


def test_no_pairs_are_refused_with_an_sae_as_without(model, both):
    for reader in (FeatureReader(), FeatureReader([(both[1], KNOWN)])):
        with pytest.raises(SteeringError, match="no pairs"):
            capture_pairs(model, [], [1], "x", reader=reader)


def test_a_layer_without_an_sae_is_named(model, both):
    activations = capture_pairs(model, PAIRS, [0, 1], "x", reader=FeatureReader([(both[1], KNOWN)]))
    with pytest.raises(SaeError, match="layer 0 has no SAE here; layers that have one: 1$"):
        activations.features_at(0)
    bare = dataclasses.replace(activations, features={})
    with pytest.raises(SaeError, match="layers that have one: none"):
        bare.features_at(1)


def test_decoded_weights_take_the_activations_dtype(sae):
    ids = ("a",)
    empty = {rule: csr_array((1, D_SAE), dtype=np.float32) for rule in RULES}
    features = {3: ContrastFeatures(empty, empty, sae, KNOWN, ())}
    weights = torch.randn(D_SAE, generator=torch.Generator().manual_seed(0))
    expected = weights.double().numpy() @ sae.decoder.double().numpy()
    for dtype in (torch.float32, torch.float64):
        sides = torch.zeros(1, 1, D_MODEL, dtype=dtype)
        found = ContrastActivations(sides, sides, (3,), ids, "x", "y", features).decode_at(3, weights)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)
