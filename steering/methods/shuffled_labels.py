"""A control: the mean difference with the labels of the pairs shuffled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from steering.activations import ContrastActivations
from steering.methods import Seed, register


@register("shuffled_labels")
@dataclass(frozen=True)
class ShuffledLabels:
    """The mean difference after half of the pairs, drawn at random, have their sides swapped; an odd one is left out.

    What the sides share in every pair cancels; what is left is how far apart two continuations of one prompt are
    whatever they are about. It is shorter than the mean difference: a profile scales it by `norm_of`.

    Attributes:
        seed: With the pairs' ids, decides which of them are swapped.
    """

    seed: Seed = 0

    exceptions: ClassVar[Mapping[str, str]] = {
        "finds_planted_direction": "the direction that all pairs share cancels, which is what it is for",
        "looks_at_its_own_layer": "without the shared direction, noise is all that it has at any layer",
    }

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the mean difference `[d_model]` of the relabelled pairs."""
        positive, negative = activations.at(layer)
        drawn = sorted(range(len(activations.pair_ids)), key=lambda pair: self._lot(activations.pair_ids[pair]))
        half = len(drawn) // 2
        signs = torch.zeros(len(drawn), 1, dtype=torch.float64, device=positive.device)
        signs[drawn[:half]], signs[drawn[half : 2 * half]] = -1, 1
        return (signs * (positive.double() - negative.double())).mean(dim=0).to(positive.dtype)

    def _lot(self, pair_id: str) -> bytes:
        """What decides about a pair, wherever it stands among the others."""
        return hashlib.sha256(f"{self.seed} {pair_id}".encode()).digest()
