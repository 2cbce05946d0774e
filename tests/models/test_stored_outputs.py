"""Losses that go on from stored outputs, to the last bit, in float32 on four architectures.

What is measured of a text under an intervention depends on neither the texts nor the interventions beside it, and
equals a forward pass of the whole model on the same padded tokens, steered by a plain hook.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.machine import _TOKEN_BUDGETS
from steering.models.outputs import StoredOutput
from steering.models.probabilities import cross_entropy
from steering.models.tokens import TokenizedText
from steering.vectors import Intervention
from tests.references import Captured, Changed, steer

# Tokens of prompt and continuation: within one width of padding, at its edges, and beyond it.
LENGTHS = ((1, 1), (3, 9), (4, 12), (5, 12), (2, 29), (20, 13), (7, 50), (40, 47), (1, 100))


@pytest.fixture(scope="module")
def texts() -> list[TokenizedText]:
    generator = np.random.default_rng(0)
    return [
        TokenizedText(tuple(generator.integers(1, 260, before + after).tolist()), before) for before, after in LENGTHS
    ]


def choices_of(model: LanguageModel) -> list[Intervention | None]:
    return [
        steer(model, 1, 2.0),
        None,
        steer(model, 0, -3.0, seed=1),
        steer(model, 1, 0.5, seed=2),
        steer(model, 0, 0.0, seed=3),
        steer(model, 0, 6.0, seed=4),
    ]


def forward(model: LanguageModel, losses: ContinuationLosses, number: int, prompts: list[int], choice):
    """Logits `[row, pos, vocab]` of a padded batch by the module itself, with a hook and without anything stored."""
    batch, rows = losses._batches[number].tokens, losses._rows[number]

    def change(output: torch.Tensor) -> torch.Tensor:
        for index, row in enumerate(rows):
            output[index, : prompts[row]] += choice.addition
        return output

    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
    if "position_ids" in inspect.signature(model.module.forward).parameters:
        last = batch.mask.sum(dim=1, keepdim=True) - 1
        inputs["position_ids"] = torch.arange(batch.ids.shape[1]).minimum(last)
    steered = nullcontext() if choice is None else Changed(model, choice.vector.layer, change)
    with torch.inference_mode(), steered:
        return model.module(**inputs).logits


@pytest.mark.parametrize("budget", [300, 5000])  # several batches of texts; one, for several interventions at a time
def test_losses_equal_full_forward_passes_on_the_same_padded_tokens(any_model, texts, monkeypatch, budget):
    monkeypatch.setitem(_TOKEN_BUDGETS, "cpu", budget)
    losses = ContinuationLosses(any_model, texts)
    found = losses.measure(choices_of(any_model))
    assert (len(losses._batches) > 1) == (budget < 1000)
    prompts = [text.prompt_length for text in texts]
    for choice, row_losses in zip(choices_of(any_model), found, strict=True):
        for number in range(len(losses._batches)):
            logits = forward(any_model, losses, number, prompts, choice)
            for index, row in enumerate(losses._rows[number]):
                ids, start = torch.tensor(texts[row].ids), prompts[row]
                predicting = logits[index, start - 1 : len(ids) - 1]
                tokens = cross_entropy(predicting, ids[start:])
                assert row_losses[row] == sum(tokens.double().tolist()) / len(tokens)


def test_losses_of_a_text_do_not_depend_on_those_beside_it(any_model, texts):
    [choice, *_] = choices_of(any_model)
    together = ContinuationLosses(any_model, texts).measure([choice, None])
    alone = [ContinuationLosses(any_model, [text]).measure([choice, None])[:, 0] for text in texts]
    assert together.T.tolist() == [pair.tolist() for pair in alone]
    order = [3, 8, 0, 5, 1, 7, 2, 6, 4]
    moved = ContinuationLosses(any_model, [texts[row] for row in order]).measure([choice, None])
    assert moved.tolist() == together[:, order].tolist()


def test_losses_of_short_texts_do_not_depend_on_how_many_positions_are_scored(any_model):
    """Products of few rows take kernels of their own: alone, each of these texts scores 1 to 40 positions."""
    generator = np.random.default_rng(1)
    texts = [TokenizedText(tuple(generator.integers(1, 260, 2 + count).tolist()), 2) for count in range(1, 41)]
    together = ContinuationLosses(any_model, texts).measure([None])[0]
    assert together.tolist() == [ContinuationLosses(any_model, [text]).measure([None])[0, 0] for text in texts]


@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_losses_do_not_depend_on_how_batches_are_divided(any_model, texts, monkeypatch, budget):
    expected = ContinuationLosses(any_model, texts).measure(choices_of(any_model))
    monkeypatch.setitem(_TOKEN_BUDGETS, "cpu", budget)
    losses = ContinuationLosses(any_model, texts)
    assert (len(losses._batches) == 1) == (budget > 10_000)
    assert losses.measure(choices_of(any_model)).tolist() == expected.tolist()


def test_losses_under_an_intervention_do_not_depend_on_those_beside_it(any_model, texts, monkeypatch):
    monkeypatch.setitem(_TOKEN_BUDGETS, "cpu", 5000)
    together = ContinuationLosses(any_model, texts).measure(choices_of(any_model))
    for choice, found in zip(choices_of(any_model), together, strict=True):
        assert ContinuationLosses(any_model, texts).measure([choice])[0].tolist() == found.tolist()
    many = ContinuationLosses(any_model, texts).measure(choices_of(any_model) * 3)
    assert many.tolist() == together.tolist() * 3


@pytest.mark.parametrize("layers", [(1, 0), (0, 1, 0), (1, None, 1, 0), (None, 0, None, 1, None), (1, 1, 0, 0)])
def test_calls_in_any_order_of_layers_give_what_new_objects_would(any_model, texts, layers):
    kept = ContinuationLosses(any_model, texts)
    for number, layer in enumerate(layers):
        choice = None if layer is None else steer(any_model, layer, 2.0, seed=number)
        assert kept.measure([choice]).tolist() == ContinuationLosses(any_model, texts).measure([choice]).tolist()


@pytest.mark.parametrize("layers", [(1, 0, 1), (0, 0), (1, None, 0)])
def test_replacements_and_interventions_take_turns_on_stored_outputs(any_model, texts, layers):
    kept = ContinuationLosses(any_model, texts)
    for layer in layers:
        if layer is not None:
            expected = ContinuationLosses(any_model, texts).replaced(layer, torch.sin)
            assert kept.replaced(layer, torch.sin).tolist() == expected.tolist()
        choices = [steer(any_model, 1 - (layer or 0), 3.0), None]
        assert kept.measure(choices).tolist() == ContinuationLosses(any_model, texts).measure(choices).tolist()


@pytest.mark.parametrize("multiple", [1, 16])
def test_stored_outputs_are_those_of_the_blocks(any_model, texts, multiple):
    batch = any_model.batch([text.ids for text in texts[:5]], multiple=multiple)
    whole = any_model.outputs(batch, [0, 1])
    with torch.inference_mode():
        hidden = any_model.module(**any_model._inputs(batch), output_hidden_states=True, use_cache=False).hidden_states
    assert torch.equal(whole[0], hidden[1])
    start = StoredOutput(0, whole[0])
    assert torch.equal(any_model.outputs(batch, [1], start)[1], whole[1])
    changed = any_model.outputs(batch, [1], StoredOutput(0, torch.sin(whole[0])))[1]
    with torch.inference_mode(), Captured(any_model, 1) as captured, Changed(any_model, 0, torch.sin):
        any_model.module(**any_model._inputs(batch), use_cache=False)
    assert torch.equal(changed, captured.output)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 11, 12, 30])
def test_logits_at_wanted_positions_are_those_of_all_positions(any_model, texts, layer, count):
    batch = any_model.batch([text.ids for text in texts[1:6]], multiple=16)
    positions = batch.mask.flatten().nonzero().squeeze(1)
    chosen = positions[torch.randperm(len(positions), generator=torch.Generator().manual_seed(count))[:count]]
    wanted = torch.zeros_like(batch.mask, dtype=torch.bool).flatten()
    wanted[chosen] = True
    wanted = wanted.reshape(batch.mask.shape)
    start = StoredOutput(layer, any_model.outputs(batch, [layer])[layer])
    found = any_model.logits(batch, wanted, start)
    with torch.inference_mode():
        full = any_model.module(**any_model._inputs(batch), use_cache=False).logits
    assert found.shape == (count, full.shape[-1])
    assert torch.equal(found, full[wanted])
