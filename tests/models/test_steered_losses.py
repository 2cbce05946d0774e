"""Losses as a function of an addition: those that are measured, and a gradient that small steps confirm."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from steering.activations import capture_pairs
from steering.concept_files import load_concept
from steering.errors import UnknownNameError
from steering.methods.mean_difference import MeanDifference
from steering.methods.optimized import Optimized
from steering.models.continuation_losses import ContinuationLosses
from steering.models.steered_losses import SteeredLosses, pair_losses
from steering.models.tokens import TokenizedText
from steering.positions import Positions
from steering.vectors import Intervention, SteeringVector

LAYER = 0


@pytest.fixture
def texts(any_model):
    generator = np.random.default_rng(0)
    ids = [tuple(generator.integers(5, 60, size=length).tolist()) for length in (9, 23, 14, 17)]
    return [TokenizedText(row, 4 + number) for number, row in enumerate(ids)]


@pytest.fixture
def direction(any_model):
    return torch.randn(any_model.d_model, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("positions", get_args(Positions))
def test_loss_is_the_one_that_is_measured(any_model, texts, direction, positions):
    losses = SteeredLosses(any_model, LAYER, {"some": texts}, positions=positions)
    steered = Intervention(SteeringVector(direction, LAYER, "m", "c", "m"), 2.0, positions)
    for rows in ([0, 1, 2, 3], [2], [3, 1]):
        measured = ContinuationLosses(any_model, texts).measure([steered, None])[:, rows].mean(axis=1)
        found = [float(losses("some", rows, factor * direction)) for factor in (2.0, 0.0)]
        np.testing.assert_allclose(found, measured, rtol=1e-5)
        assert abs(measured[0] - measured[1]) > 1e-4


def test_gradient_is_the_slope_that_small_steps_find(any_model, texts, direction):
    losses = SteeredLosses(any_model, LAYER, {"some": texts})
    at = direction.clone().requires_grad_()
    [gradient] = torch.autograd.grad(losses("some", [0, 1, 2, 3], at), at)
    step = 0.02 * gradient / gradient.norm()
    higher, lower = (losses("some", [0, 1, 2, 3], direction + sign * step) for sign in (1, -1))
    slope = float(higher - lower) / (2 * float(step.norm()))
    assert float(gradient.norm()) == pytest.approx(slope, rel=0.03)


def test_no_weight_gets_a_gradient(any_model, texts, direction):
    at = direction.clone().requires_grad_()
    torch.autograd.grad(SteeredLosses(any_model, LAYER, {"some": texts})("some", [0], at), at)
    assert all(parameter.grad is None for parameter in any_model.module.parameters())


def test_layer_that_there_is_not_is_named(any_model, texts):
    with pytest.raises(UnknownNameError, match="layer"):
        SteeredLosses(any_model, 99, {"some": texts})


def test_optimisation_lowers_what_it_minimises_on_a_real_network(llama, concept_directory, texts):
    pairs = load_concept(str(concept_directory)).generation
    losses = pair_losses(llama, LAYER, pairs, texts)
    activations = replace(capture_pairs(llama, pairs, [LAYER], "royalty"), losses=lambda _: losses)
    method = Optimized(negative_subtracted=0, positive_subtracted=0, neutral_added=0, steps=30, learning_rate=0.2)

    def objective(direction):
        positive, negative = (losses(side, range(len(pairs)), direction) for side in ("positive", "negative"))
        return float(positive - negative)

    start = MeanDifference().fit(activations, LAYER)
    assert objective(method.fit(activations, LAYER)) < objective(start) - 1e-3
