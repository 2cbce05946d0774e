"""Feature Delta: the change of SAE features between the two sides, decoded (the paper's section V)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from steering.activations import ContrastActivations
from steering.methods import Count, SumOfFeatures, register
from steering.sae.contrast_features import PairRule, TokenRule, largest


@register("feature_delta")
@dataclass(frozen=True)
class FeatureDelta(SumOfFeatures):
    """Sum over features of their change times their decoder row; no decoder bias.

    Attributes:
        tokens: How a continuation's tokens become one value; "last" is the paper's wording. At the last token the
            features of the concept seldom fire, which is why the mean is the default.
        pairs: How the pairs become one value; with tokens "max", "max" is what the paper's published script computes,
            but that the script also reads the prompts.
        top: How many features of largest absolute change to keep; all of them by default.
    """

    tokens: TokenRule = "mean"
    pairs: PairRule = "mean"
    top: Count | None = None

    def weights(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Weight of each feature, `[d_sae]`; 0 for those that are left out."""
        return largest(activations.features_at(layer).difference(self.tokens, self.pairs), self.top)
