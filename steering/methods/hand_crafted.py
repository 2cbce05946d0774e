"""Hand Crafted: the same sum over features that someone chose for what they mean (the paper's section V)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from steering.activations import ContrastActivations
from steering.errors import SaeError
from steering.methods import Count, SumOfFeatures, register
from steering.sae.contrast_features import PairRule, TokenRule, largest
from steering.sae.features import check_features


@register("hand_crafted")
@dataclass(frozen=True)
class HandCrafted(SumOfFeatures):
    """Sum over the chosen features of their change times their decoder row.

    Each feature points to the side on which it is more active, so feminine features enter a masculine vector with a
    negative weight.

    Attributes:
        ids: Layer -> numbers of the chosen features.
        keywords: Where a layer has no ids: words to find in the features' descriptions; the concept's by default.
        tokens: As in feature_delta.
        pairs: As in feature_delta.
        top: How many of the chosen features, those of largest absolute change, to keep; all of them by default.
    """

    ids: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()
    tokens: TokenRule = "mean"
    pairs: PairRule = "mean"
    top: Count | None = None

    def choose(self, activations: ContrastActivations, layer: int) -> list[int]:
        """The chosen features of a layer.

        Raises:
            SaeError: The SAE has no such feature, or no description holds a keyword.
        """
        features = activations.features_at(layer)
        if layer not in self.ids:
            return features.descriptions.search(self.keywords or features.keywords)
        check_features(self.ids[layer], features.sae)
        return list(self.ids[layer])

    def weights(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Weight of each feature, `[d_sae]`; 0 for those that are left out.

        Raises:
            SaeError: None of the chosen features differs between the two sides.
        """
        change = activations.features_at(layer).difference(self.tokens, self.pairs)
        chosen = torch.zeros_like(change)
        ids = self.choose(activations, layer)
        chosen[ids] = change[ids]
        if not bool(chosen.any()):
            raise SaeError(f"layer {layer}: none of the {len(ids)} chosen features differs between the two sides")
        return largest(chosen, self.top)
