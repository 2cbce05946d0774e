"""Losses with the output of a block replaced, on four architectures, against a plain forward hook."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from steering.errors import DataError, NonFiniteError, UnknownNameError
from steering.families import family
from steering.model import LanguageModel
from steering.tokens import TokenizedText
from tests.test_model import tokenized

Replacement = Callable[[torch.Tensor], torch.Tensor]


def doubled(residual: torch.Tensor) -> torch.Tensor:
    return residual * 2


def reference(model: LanguageModel, text: TokenizedText, layer: int, replace: Replacement, start: int) -> float:
    """The loss with the block's output replaced from position `start` on, by a forward hook without nnsight."""

    def hook(_module, _inputs, output):
        output = output.clone()
        output[:, start:] = replace(output[:, start:])
        return output

    ids = torch.tensor([text.ids])
    handle = model.module.get_submodule(family(model.module.config.model_type).blocks)[layer].register_forward_hook(
        hook
    )
    with torch.no_grad():
        logits = model.module(ids).logits
    handle.remove()
    first = text.prompt_length
    return float(functional.cross_entropy(logits[0, first - 1 : -1], ids[0, first:]))


@pytest.mark.parametrize("layer", [0, 1])
def test_replacement_by_itself_reproduces_the_losses_exactly(any_model, layer):
    texts = tokenized(any_model)
    found = any_model.replaced_losses(texts, layer, lambda residual: residual)
    assert found.dtype == np.float64
    assert (found == any_model.losses(texts, [None] * len(texts))).all()


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("replace", [torch.zeros_like, doubled])
def test_replaced_losses_equal_a_forward_hook_that_leaves_the_first_position(any_model, layer, replace):
    texts = tokenized(any_model)
    found = any_model.replaced_losses(texts, layer, replace)
    np.testing.assert_allclose(
        found, [reference(any_model, text, layer, replace, start=1) for text in texts], rtol=1e-4
    )


def test_zeros_change_every_loss(any_model):
    texts = tokenized(any_model)
    zeros = any_model.replaced_losses(texts, 0, torch.zeros_like)
    assert (np.abs(zeros - any_model.losses(texts, [None] * len(texts))) > 1e-3).all()


def test_the_first_position_is_kept(any_model):
    # With one prompt token, the first continuation token is predicted at the first position alone.
    ids = tuple(any_model.tokenizer("the king saw")["input_ids"][:2])
    text = TokenizedText(ids, 1)
    kept = any_model.replaced_losses([text], 0, torch.zeros_like)[0]
    assert kept == pytest.approx(any_model.losses([text], [None])[0], rel=1e-6)
    assert abs(kept - reference(any_model, text, 0, torch.zeros_like, start=0)) > 1e-3


def test_what_is_replaced_has_all_positions_but_the_first_of_one_block(llama):
    text = tokenized(llama)[0]
    seen = []

    def look(residual: torch.Tensor) -> torch.Tensor:
        seen.append(residual.clone())
        return residual

    llama.replaced_losses([text], 1, look)
    [batch] = llama.capture([text.ids], [1])
    [residual] = seen
    torch.testing.assert_close(residual, batch.residuals[1][:, 1:])


def test_replaced_losses_do_not_depend_on_the_batch(llama):
    texts = tokenized(llama)
    alone = [llama.replaced_losses([text], 0, doubled)[0] for text in texts]
    np.testing.assert_allclose(llama.replaced_losses(texts, 0, doubled), alone, rtol=1e-5)


@pytest.mark.parametrize("layer", [2, -1])
def test_replacement_at_a_layer_that_the_model_lacks_is_refused(llama, layer):
    with pytest.raises(UnknownNameError, match=r"layer.*Known: 0 to 1"):
        llama.replaced_losses(tokenized(llama), layer, doubled)


def test_replacement_that_is_not_finite_is_reported(llama):
    with pytest.raises(NonFiniteError, match="loss of text 0 is nan"):
        llama.replaced_losses(tokenized(llama), 0, lambda residual: residual * float("nan"))


def test_replacement_in_a_text_longer_than_the_context_is_refused(any_model):
    limit = any_model.module.config.max_position_embeddings
    with pytest.raises(DataError, match=f"{limit + 1} tokens is longer than the {limit}"):
        any_model.replaced_losses([TokenizedText((1,) * (limit + 1), 4)], 0, doubled)
