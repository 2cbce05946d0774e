"""Losses of continuations, steered and with the output of a block replaced, against plain forward hooks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from steering.errors import DataError, NonFiniteError, UnknownNameError
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText
from steering.positions import Positions
from steering.progress import Advance, Silent
from tests.references import Changed, continuation_loss, reference_loss, steer, tokenized
from tests.small_models import CONFIGS, small_model


def losses_of(model: LanguageModel) -> ContinuationLosses:
    return ContinuationLosses(model, tokenized(model))


def doubled(residual: torch.Tensor) -> torch.Tensor:
    return residual * 2


def replaced_reference(
    model: LanguageModel,
    text: TokenizedText,
    layer: int,
    replace: Callable[[torch.Tensor], torch.Tensor],
    start: int = 1,
) -> float:
    """The loss with the block's output replaced from position `start` on."""

    def change(output: torch.Tensor) -> torch.Tensor:
        output[:, start:] = replace(output[:, start:])
        return output

    with Changed(model, layer, change):
        return continuation_loss(model, text)


@pytest.mark.parametrize("positions", get_args(Positions))
@pytest.mark.parametrize("architecture", CONFIGS)
def test_losses_of_each_family_equal_the_reference(architecture, positions):
    model = small_model(architecture)
    steered = steer(model, 0, 3.0, positions=positions)
    expected = [reference_loss(model, text, steered) for text in tokenized(model)]
    np.testing.assert_allclose(losses_of(model).measure([steered])[0], expected, rtol=1e-4)


@pytest.mark.parametrize("layer", [0, 1])
def test_losses_equal_a_plain_forward_pass(any_model, layer):
    for choice in (None, steer(any_model, layer, 2.0)):
        found = losses_of(any_model).measure([choice])
        assert found.dtype == np.float64
        expected = [reference_loss(any_model, text, choice) for text in tokenized(any_model)]
        np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_each_intervention_of_a_call_steers_its_own_rows(any_model):
    choices = [steer(any_model, 0, 1.0), None, steer(any_model, 1, -3.0, seed=5), steer(any_model, 0, 2.5, seed=6)]
    choices += [steer(any_model, layer, 2.0, seed=7, positions="all") for layer in (0, 1)]
    expected = [[reference_loss(any_model, text, choice) for text in tokenized(any_model)] for choice in choices]
    np.testing.assert_allclose(losses_of(any_model).measure(choices), expected, rtol=1e-4)


def test_steering_changes_the_losses(any_model):
    steered, unsteered = losses_of(any_model).measure([steer(any_model, 0, 4.0), None])
    assert (np.abs(steered - unsteered) > 1e-3).all()


@pytest.mark.parametrize("layer", [0, 1])
def test_zero_multiplier_reproduces_the_unsteered_losses_exactly(any_model, layer):
    zeros = [steer(any_model, layer, 0.0, positions=positions) for positions in get_args(Positions)]
    *found, unsteered = losses_of(any_model).measure([*zeros, None])
    assert all((losses == unsteered).all() for losses in found)


def test_the_first_continuation_token_does_not_feel_whether_it_is_steered_itself(any_model):
    [text] = tokenized(any_model)[:1]
    whole, head = text, TokenizedText(text.ids[: text.prompt_length + 1], text.prompt_length)
    choices = [steer(any_model, 0, 3.0, positions=positions) for positions in get_args(Positions)]
    first, all_of_it = (ContinuationLosses(any_model, [each]).measure(choices)[:, 0] for each in (head, whole))
    assert first[0] == first[1]
    assert abs(all_of_it[0] - all_of_it[1]) > 1e-3


def test_steering_the_last_block_changes_only_the_first_continuation_token(any_model):
    steered = steer(any_model, any_model.layer_count - 1, 5.0)
    [text] = tokenized(any_model)[:1]
    ids = torch.tensor([text.ids])
    with torch.no_grad():
        plain = functional.log_softmax(any_model.module(ids).logits[0], dim=-1)
    token_losses = -plain[range(len(text.ids) - 1), text.ids[1:]]
    first = text.prompt_length - 1
    count = len(text.ids) - text.prompt_length
    here, unsteered = ContinuationLosses(any_model, [text]).measure([steered, None])[:, 0]
    # All of the change is in the first token's loss: with only that token scored, the sum of the changes is the same.
    head = TokenizedText(text.ids[: text.prompt_length + 1], text.prompt_length)
    head_change = ContinuationLosses(any_model, [head]).measure([steered])[0, 0] - float(token_losses[first])
    assert abs(head_change) > 1e-3
    assert (here - unsteered) * count == pytest.approx(head_change, rel=1e-3)


def test_losses_of_no_intervention_are_none(llama):
    assert losses_of(llama).measure([]).shape == (0, 3)


@pytest.mark.parametrize("layer", [0, 1])
def test_replacement_by_itself_reproduces_the_losses_exactly(any_model, layer):
    found = losses_of(any_model).replaced(layer, lambda residual: residual)
    assert found.dtype == np.float64
    assert (found == losses_of(any_model).measure([None])[0]).all()


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("replace", [torch.zeros_like, doubled])
def test_replaced_losses_equal_a_forward_hook_that_leaves_the_first_position(any_model, layer, replace):
    found = losses_of(any_model).replaced(layer, replace)
    expected = [replaced_reference(any_model, text, layer, replace) for text in tokenized(any_model)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_zeros_change_every_loss(any_model):
    losses = losses_of(any_model)
    assert (np.abs(losses.replaced(0, torch.zeros_like) - losses.measure([None])[0]) > 1e-3).all()


def test_the_first_position_is_kept(any_model):
    # With one prompt token, the first continuation token is predicted at the first position alone.
    ids = tuple(any_model.tokenizer("the king saw")["input_ids"][:2])
    text = TokenizedText(ids, 1)
    losses = ContinuationLosses(any_model, [text])
    kept = losses.replaced(0, torch.zeros_like)[0]
    assert kept == pytest.approx(losses.measure([None])[0, 0], rel=1e-6)
    assert abs(kept - replaced_reference(any_model, text, 0, torch.zeros_like, start=0)) > 1e-3


def test_what_is_replaced_has_all_positions_but_the_first_of_one_block(llama):
    text = tokenized(llama)[0]
    seen = []

    def look(residual: torch.Tensor) -> torch.Tensor:
        seen.append(residual.clone())
        return residual

    ContinuationLosses(llama, [text]).replaced(1, look)
    [batch] = llama.capture([text.ids], [1])
    [residual] = seen
    torch.testing.assert_close(residual, batch.residuals[1][:, 1:-1])  # the last token predicts nothing


def test_replaced_losses_do_not_depend_on_the_batch(any_model):
    alone = [ContinuationLosses(any_model, [text]).replaced(0, doubled)[0] for text in tokenized(any_model)]
    assert losses_of(any_model).replaced(0, doubled).tolist() == alone


@pytest.mark.parametrize("layer", [2, -1])
def test_replacement_at_a_layer_that_the_model_lacks_is_refused(llama, layer):
    with pytest.raises(UnknownNameError, match=r"layer.*Known: 0 to 1"):
        losses_of(llama).replaced(layer, doubled)


def test_replacement_that_is_not_finite_is_reported(llama):
    with pytest.raises(NonFiniteError, match="loss of text 0 is nan"):
        losses_of(llama).replaced(0, lambda residual: residual * float("nan"))


def test_texts_longer_than_the_context_are_refused(any_model):
    limit = any_model.module.config.max_position_embeddings
    with pytest.raises(DataError, match=f"{limit + 1} tokens is longer than the {limit}"):
        ContinuationLosses(any_model, [TokenizedText((1,) * (limit + 1), 4)])


class Tasks(Silent):
    """Keeps what is said to be done."""

    def __init__(self) -> None:
        self.named: list[str] = []

    def work(self, task: str, steps: int) -> AbstractContextManager[Advance]:
        self.named.append(task)
        return super().work(task, steps)


def test_progress_says_which_losses_are_measured(llama):
    tasks = Tasks()
    for kind in ("neutral", ""):
        ContinuationLosses(llama, [TokenizedText((5, 6, 7), 1)], kind).measure([None], tasks)
    assert tasks.named == ["measuring neutral losses", "measuring losses"]


def test_text_for_which_longrope_has_other_factors_is_refused(monkeypatch):
    """A shorter text beside it would be computed with these, too."""
    config_class, settings = CONFIGS["phi3"]
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "factor": 4.0}
    rotary = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64} | factors
    limits = {"max_position_embeddings": 256, "original_max_position_embeddings": 64, "rope_parameters": rotary}
    monkeypatch.setitem(CONFIGS, "longrope", (config_class, settings | limits))
    model = small_model("longrope")
    short, long = TokenizedText((9, 8, 7, 6, 5), 3), TokenizedText(tuple(range(5, 69)), 3)
    alone, beside = (ContinuationLosses(model, texts).measure([None])[0, 0] for texts in ([short], [short, long]))
    assert alone == beside
    with pytest.raises(DataError, match="65 tokens is longer than the 64 that model small-longrope can read"):
        ContinuationLosses(model, [short, TokenizedText((*long.ids, 4), 3)])


def test_texts_of_which_only_the_first_position_is_computed_have_nothing_to_be_replaced(llama):
    losses = ContinuationLosses(llama, [TokenizedText((5, 6), 1)])
    found = losses.replaced(0, lambda _: pytest.fail("no position is left to be replaced"))
    assert found == losses.measure([None])[0]
