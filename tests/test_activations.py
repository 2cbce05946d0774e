"""Capturing pairs: which token is read, from which block."""

from __future__ import annotations

import pytest
import torch

from steering.activations import ContrastActivations, capture_pairs
from steering.concepts import ContrastPair
from steering.errors import SteeringError, UnknownNameError
from steering.families import family

PAIRS = (
    ContrastPair("a", "The ruler", "was a king.", "was a queen of the story."),
    ContrastPair("b", "Long ago there lived", "a boy.", "a girl."),
)


def reference(model, text: str, layer: int) -> torch.Tensor:
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    seen = {}
    blocks = model.module.get_submodule(family(model.module.config.model_type).blocks)
    handle = blocks[layer].register_forward_hook(lambda _module, _inputs, output: seen.update(output=output))
    with torch.no_grad():
        model.module(ids)
    handle.remove()
    return seen["output"][0, -1]


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
