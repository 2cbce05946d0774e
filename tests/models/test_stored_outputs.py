"""Losses that go on from stored outputs, to the last bit, in float32 on four architectures.

What is measured of a text under an intervention depends on neither the texts nor the interventions beside it, and
equals a forward pass of the whole model on the same padded tokens, steered by a plain hook.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.machine import _TOKEN_BUDGETS
from steering.models.outputs import StoredOutput
from steering.models.packing import pack
from steering.models.probabilities import cross_entropy
from steering.models.tokens import TokenizedText
from steering.vectors import Intervention
from tests.references import Captured, Changed, steer
from tests.small_models import CONFIGS, small_model

# Tokens of prompt and continuation: within one width of padding, at its edges, beyond it, and too long for products.
LENGTHS = ((1, 1), (3, 9), (4, 12), (5, 12), (2, 29), (20, 13), (7, 50), (40, 47), (1, 100), (30, 140))


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


def padded(texts: list[TokenizedText]) -> dict[str, torch.Tensor]:
    """Texts without their last tokens, padded to a multiple of 16: of attention's sums, the order depends on it."""
    lengths = [len(text.ids) - 1 for text in texts]
    width = -(-max(lengths) // 16) * 16
    mask = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.tensor([[*text.ids[:-1], *[7] * (width - len(text.ids) + 1)] for text in texts])
    positions = torch.arange(width).expand_as(ids).minimum(mask.sum(dim=1, keepdim=True) - 1)
    return {"input_ids": ids, "attention_mask": mask.long(), "position_ids": positions}


def forward(model: LanguageModel, texts: list[TokenizedText], choice: Intervention | None) -> torch.Tensor:
    """Logits `[row, pos, vocab]` by the module itself, with a hook: nothing is stored, packed or shared."""

    def change(output: torch.Tensor) -> torch.Tensor:
        for row, text in enumerate(texts):
            output[row, : text.prompt_length if choice.positions == "prompt" else None] += choice.addition
        return output

    steered = nullcontext() if choice is None else Changed(model, choice.vector.layer, change)
    with torch.inference_mode(), steered:
        return model.module(**padded(texts), use_cache=False).logits


def token_means(texts: list[TokenizedText], logits: torch.Tensor) -> list[float]:
    """Mean cross-entropy of the continuation of each text."""
    means = []
    for text, predicting in zip(texts, logits, strict=True):
        targets = torch.tensor(text.ids[text.prompt_length :])
        tokens = cross_entropy(predicting[text.prompt_length - 1 : len(text.ids) - 1], targets)
        means.append(sum(tokens.double().tolist()) / len(tokens))
    return means


@pytest.mark.parametrize("budget", [300, 5000])  # several batches of texts; one, for several interventions at a time
def test_losses_equal_full_forward_passes_on_padded_texts(any_model, texts, monkeypatch, budget):
    monkeypatch.setitem(_TOKEN_BUDGETS, "cpu", budget)
    losses = ContinuationLosses(any_model, texts)
    found = losses.measure(choices_of(any_model))
    assert (len(losses._batches) > 2) == (budget < 1000)
    for choice, row_losses in zip(choices_of(any_model), found, strict=True):
        for rows in losses._rows:
            members = [texts[row] for row in rows]
            assert row_losses[rows].tolist() == token_means(members, forward(any_model, members, choice))


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("positions", ["prompt", "all"])
def test_texts_that_share_a_prompt_lose_what_they_lose_alone(architecture, texts, positions):
    """Of every family: that of some has a window of four positions, or a cap on attention's scores."""
    model = small_model(architecture)
    prompts = [text.ids[: text.prompt_length] for text in texts]
    endings = [text.ids[text.prompt_length :] for text in texts[1:] + texts[:1]]
    sides = [*texts, *(TokenizedText(prompt + end, len(prompt)) for prompt, end in zip(prompts, endings, strict=True))]
    assert pack(sides).ids.numel() < sum(len(text.ids) - 1 for text in sides)
    steered = [replace(each, positions=positions) for each in choices_of(model) if each is not None]
    together = ContinuationLosses(model, sides).measure([*steered, None])
    for choice, losses in zip([*steered, None], together, strict=True):
        assert losses.tolist() == [
            mean for text in sides for mean in token_means([text], forward(model, [text], choice))
        ]


def test_losses_of_a_text_do_not_depend_on_those_beside_it(any_model, texts):
    [choice, *_] = choices_of(any_model)
    together = ContinuationLosses(any_model, texts).measure([choice, None])
    alone = [ContinuationLosses(any_model, [text]).measure([choice, None])[:, 0] for text in texts]
    assert together.T.tolist() == [pair.tolist() for pair in alone]
    order = [3, 8, 0, 5, 9, 1, 7, 2, 6, 4]
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
    assert (len(losses._batches) == 2) == (budget > 10_000), "a text of more than 128 positions is apart"
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


def test_stored_outputs_are_those_of_the_blocks(any_model, texts):
    batch = any_model.batch([text.ids for text in texts[:5]])
    whole = any_model.outputs(batch, [0, 1])
    with torch.inference_mode():
        hidden = any_model.module(**batch.inputs, output_hidden_states=True, use_cache=False).hidden_states
    assert torch.equal(whole[0], hidden[1])
    start = StoredOutput(0, whole[0])
    assert torch.equal(any_model.outputs(batch, [1], start)[1], whole[1])
    changed = any_model.outputs(batch, [1], StoredOutput(0, torch.sin(whole[0])))[1]
    with torch.inference_mode(), Captured(any_model, 1) as captured, Changed(any_model, 0, torch.sin):
        any_model.module(**batch.inputs, use_cache=False)
    assert torch.equal(changed, captured.output)


@pytest.mark.parametrize("layer", [0, 1])
def test_stored_outputs_of_packed_texts_are_those_of_padded_ones(any_model, texts, layer):
    packed = pack(texts)
    found = any_model.outputs(packed, [layer])[layer]
    with torch.inference_mode(), Captured(any_model, layer) as captured:
        any_model.module(**padded(texts), use_cache=False)
    for row, text in enumerate(texts):
        before = len(text.ids) - 1
        assert torch.equal(found[0, packed.token_at[row, :before]], captured.output[row, :before])


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 11, 12, 30])
def test_logits_of_wanted_tokens_are_those_of_all(any_model, texts, layer, count):
    packed = pack(texts[1:6])
    wanted = torch.randperm(packed.ids.numel(), generator=torch.Generator().manual_seed(count))[:count]
    start = StoredOutput(layer, any_model.outputs(packed, [layer])[layer])
    found = any_model.logits(packed, wanted, start)
    with torch.inference_mode():
        full = any_model.module(**packed.inputs, use_cache=False).logits
    assert found.shape == (count, full.shape[-1])
    assert torch.equal(found, full[0, wanted])
