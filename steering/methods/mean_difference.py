"""The mean difference of the paired activations (Rimsky et al. 2024, "contrastive activation addition")."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from steering.activations import ContrastActivations
from steering.methods import register


@register("mean_difference")
@dataclass(frozen=True)
class MeanDifference:
    """Mean over pairs of positive minus negative; not normalised, as in the paper."""

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the mean difference `[d_model]`; summed in float64, so that the order of pairs does not show."""
        positive, negative = activations.at(layer)
        return (positive.double() - negative.double()).mean(dim=0).to(positive.dtype)
