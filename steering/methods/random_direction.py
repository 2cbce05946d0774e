"""A control: a random direction with the norm of the mean difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from steering.activations import ContrastActivations
from steering.methods import Seed, register
from steering.methods.mean_difference import MeanDifference


@register("random_direction")
@dataclass(frozen=True)
class RandomDirection:
    """Uniform on the sphere whose radius is the mean difference's norm at the layer.

    It does the damage of a vector of that size without its meaning: what it changes, size alone changes.

    Attributes:
        seed: With the layer, decides the direction.
    """

    seed: Seed = 0

    exceptions: ClassVar[Mapping[str, str]] = {
        "finds_planted_direction": "it is drawn without looking at the direction of the activations",
        "swapping_sides_flips_sign": "it depends on the sides through the norm alone",
    }

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the random direction `[d_model]`."""
        reference = MeanDifference().fit(activations, layer)
        generator = np.random.default_rng([self.seed, layer])
        direction = torch.from_numpy(generator.standard_normal(reference.shape[0])).to(reference.device)
        scaled: torch.Tensor = direction * (reference.double().norm() / direction.norm())
        return scaled.to(reference.dtype)
