"""Capturing pairs: which tokens are read, from which block, and what SAEs see of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steering.activations import ContrastActivations, FeatureReader, capture_pairs
from steering.concepts import ContrastPair
from steering.errors import SaeError, SteeringError, UnknownNameError
from steering.models.families import family
from steering.sae.features import Descriptions
from tests.small_saes import numpy_weights, small_sae

PAIRS = (
    ContrastPair("a", "The ruler", "was a king.", "was a queen of the story."),
    ContrastPair("b", "Long ago there lived", "a boy.", "a girl."),
)


def residuals(model, text: str, layer: int) -> torch.Tensor:
    """The residual stream `[pos, d_model]` by a forward hook."""
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    seen = {}
    blocks = model.module.get_submodule(family(model.module.config.model_type).blocks)
    handle = blocks[layer].register_forward_hook(lambda _module, _inputs, output: seen.update(output=output))
    with torch.no_grad():
        model.module(ids)
    handle.remove()
    return seen["output"][0]


def reference(model, text: str, layer: int) -> torch.Tensor:
    return residuals(model, text, layer)[-1]


def test_capture_reads_the_last_token_of_prompt_space_continuation(any_model):
    activations = capture_pairs(any_model, PAIRS, [1, 0], "royalty")
    assert activations.layers == (0, 1)
    assert activations.pair_ids == ("a", "b")
    for row, pair in enumerate(PAIRS):
        for index, layer in enumerate(activations.layers):
            for side, text in ((activations.positive, pair.positive), (activations.negative, pair.negative)):
                expected = reference(any_model, f"{pair.prompt} {text}", layer)
                torch.testing.assert_close(side[row, index], expected)


def test_capture_never_reads_position_0(llama):
    pair = ContrastPair("short", "A", "b", "c")
    lengths = [batch.lengths for batch in llama.capture([llama.tokenizer("A b")["input_ids"]], [0])]
    assert min(lengths[0]) >= 2
    activations = capture_pairs(llama, [pair], [0], "x")
    first = next(llama.capture([llama.tokenizer("A b")["input_ids"]], [0])).residuals[0][0, 0]
    assert not torch.allclose(activations.positive[0, 0], first)


def test_a_layer_captured_alone_equals_the_same_layer_captured_with_others(any_model):
    together = capture_pairs(any_model, PAIRS, [0, 1], "x")
    alone = capture_pairs(any_model, PAIRS, [1], "x")
    assert torch.equal(together.at(1)[0], alone.at(1)[0])


def test_activations_of_no_pairs_and_of_other_shapes_are_refused():
    empty = torch.empty(0, 1, 4)
    with pytest.raises(SteeringError, match="no pairs"):
        ContrastActivations(empty, empty, (0,), (), "x", "y")
    with pytest.raises(SteeringError, match=r"\(1, 2, 4\).*1 layers"):
        ContrastActivations(torch.ones(1, 2, 4), torch.ones(1, 2, 4), (0,), ("a",), "x", "y")


def test_layer_that_was_not_captured_is_refused(llama):
    activations = capture_pairs(llama, PAIRS, [1], "x")
    with pytest.raises(UnknownNameError, match="captured layer '0'. Known: 1"):
        activations.at(0)


@pytest.fixture
def reader(tmp_path) -> FeatureReader:
    """SAEs of both blocks, with ReLU features."""
    saes = [small_sae(tmp_path / f"{k}", hook_name=f"blocks.{k}.hook_resid_post", seed=k) for k in (0, 1)]
    return FeatureReader([(sae, Descriptions(texts={3: f"block {sae.layer}"})) for sae in saes], ("king", "queen"))


@pytest.mark.parametrize("layer", [0, 1])
def test_features_are_read_from_the_tokens_of_the_continuation(any_model, reader, tmp_path, layer):
    found = capture_pairs(any_model, PAIRS, [0, 1], "x", reader=reader).features_at(layer)
    weights = numpy_weights(tmp_path / str(layer))
    for row, pair in enumerate(PAIRS):
        for side, continuation in ((found.positive, pair.positive), (found.negative, pair.negative)):
            text = f"{pair.prompt} {continuation}"
            ends = [end for _, end in any_model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]
            read = [position for position, end in enumerate(ends) if end > len(pair.prompt)]
            stream = residuals(any_model, text, layer).double().numpy()[read]
            codes = np.maximum((stream - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"], 0)
            for rule, expected in (("mean", codes.mean(axis=0)), ("max", codes.max(axis=0)), ("last", codes[-1])):
                np.testing.assert_allclose(side[rule].toarray()[row], expected, rtol=1e-3, atol=1e-4)


def test_features_come_with_what_is_known_of_them(llama, reader):
    found = capture_pairs(llama, PAIRS, [0], "x", reader=reader).features_at(1)
    assert (found.sae.layer, found.descriptions[3], found.keywords) == (1, "block 1", ("king", "queen"))


def test_layers_of_saes_are_captured_with_those_asked_for(llama, reader):
    single = FeatureReader(reader.saes[:1])
    activations = capture_pairs(llama, PAIRS, [1], "x", reader=single)
    assert (activations.layers, set(activations.features)) == ((0, 1), {0})
    torch.testing.assert_close(activations.at(1)[0], capture_pairs(llama, PAIRS, [1], "x").at(1)[0])


def test_decoded_weights_are_a_sum_of_decoder_rows_without_the_bias(llama, reader, tmp_path):
    activations = capture_pairs(llama, PAIRS, [0, 1], "x", reader=reader)
    weights = torch.zeros(64)
    weights[3], weights[60] = 2.0, -0.5
    rows = numpy_weights(tmp_path / "1")["W_dec"]
    np.testing.assert_allclose(activations.decode_at(1, weights), 2 * rows[3] - rows[60] / 2, rtol=1e-5, atol=1e-6)


def test_features_of_a_layer_without_an_sae_are_refused(llama, reader):
    activations = capture_pairs(llama, PAIRS, [0, 1], "x", reader=FeatureReader(reader.saes[:1]))
    with pytest.raises(SaeError, match="layer 1 has no SAE here; layers that have one: 0"):
        activations.features_at(1)
    with pytest.raises(SaeError, match="layers that have one: none"):
        capture_pairs(llama, PAIRS, [1], "x").features_at(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 16}, "reads a width of 16, but model small-llama has d_model 32"),
        (
            {"hook_name": "blocks.2.hook_resid_post"},
            "the output of block 2, but model small-llama has the blocks 0 to 1",
        ),
    ],
)
def test_sae_that_does_not_fit_the_model_is_refused(llama, tmp_path, options, message):
    sae = small_sae(tmp_path / "sae", **options)
    with pytest.raises(SaeError, match=message):
        capture_pairs(llama, PAIRS, [0], "x", reader=FeatureReader([(sae, Descriptions())]))
