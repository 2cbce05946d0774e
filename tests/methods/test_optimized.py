"""The method that follows a gradient: what it minimises, over which texts, in steps of which size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch

from steering.activations import ContrastActivations
from steering.methods.optimized import Optimized
from tests.planted import planted_activations, planted_direction, reordered

DOCUMENTS = 9
#: By which the losses of the kinds differ, so that none can stand for another.
SCALES = {"positive": 2.0, "negative": 3.0, "neutral": 5.0}


@dataclasses.dataclass
class RecordedLosses:
    """Losses that grow with the sum of what is added, and a note of the texts that they were asked for."""

    asked: list[tuple[str, tuple[int, ...]]] = dataclasses.field(default_factory=list)

    def count(self, kind: str) -> int:
        return DOCUMENTS if kind == "neutral" else 40

    def __call__(self, kind: str, rows: Sequence[int], addition: torch.Tensor) -> torch.Tensor:
        self.asked.append((kind, tuple(rows)))
        return SCALES[kind] * torch.exp(addition.sum() / 10) * len(rows)


def activations_with(losses: RecordedLosses) -> ContrastActivations:
    return dataclasses.replace(planted_activations(planted_direction()), losses=lambda _layer: losses)


def texts_of(parameters: dict[str, int], order: torch.Tensor | None = None) -> list[tuple[str, tuple[object, ...]]]:
    """Kind and texts of each loss that is asked for: pairs by their ids, documents by their numbers."""
    losses = RecordedLosses()
    activations = activations_with(losses)
    if order is not None:
        activations = reordered(activations, order)
    Optimized(**parameters).fit(activations, 5)
    ids = activations.pair_ids
    return [(kind, rows if kind == "neutral" else tuple(ids[row] for row in rows)) for kind, rows in losses.asked]


def test_what_is_minimised_is_the_weighted_sum_of_the_docstring():
    direction = torch.tensor([0.5, -0.2, 0.4], requires_grad=True)
    method = Optimized(1.5, 0.7, 1.1, 0.3, 2.0, dose=3.0)
    found = method._gradient(RecordedLosses(), [0, 1], [2, 3, 4], direction)
    added, subtracted = math.exp(0.7 * 3 / 10), -math.exp(-0.7 * 3 / 10)  # but for the dose, their own derivatives
    of_pairs = 1.5 * 2 * added - 0.7 * 3 * added + 1.1 * 3 * subtracted - 0.3 * 2 * subtracted
    assert found.tolist() == pytest.approx([3 / 10 * (2 * of_pairs + 3 * 2.0 * 5 * added)] * 3)


def test_batches_follow_the_ids_the_seed_and_their_size():
    found = texts_of({"steps": 2, "batch": 8})
    assert all(len(set(texts)) == 8 for _, texts in found)
    assert {document for kind, texts in found if kind == "neutral" for document in texts} <= set(range(DOCUMENTS))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert texts_of({"steps": 2, "batch": 8}, order) == found
    assert texts_of({"steps": 2, "batch": 8, "seed": 1}) != found


def test_first_step_is_a_part_of_the_mean_difference_s_root_mean_square():
    activations = activations_with(RecordedLosses())
    start = (activations.positive - activations.negative)[:, 1].double().mean(dim=0)
    found = Optimized(steps=1, learning_rate=0.2).fit(activations, 5)
    expected = torch.full_like(start, 0.2 * float(start.square().mean().sqrt()))  # Adam's first step is its rate
    torch.testing.assert_close((found.double() - start).abs(), expected, rtol=1e-3, atol=1e-5)
