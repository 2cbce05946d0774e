"""A control: random features in the place of those that another method chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from steering.activations import ContrastActivations
from steering.methods import Seed, SumOfFeatures, create_method, register


@register("random_features")
@dataclass(frozen=True)
class RandomFeatures(SumOfFeatures):
    """As many features as another method uses, with the same weights, drawn from those that it does not use.

    It does what a sum of so many decoder rows does without their meaning.

    Attributes:
        reference: The other method.
        parameters: Of the other method.
        seed: With the layer, decides which features are drawn.
    """

    reference: Literal["feature_delta", "hand_crafted"] = "feature_delta"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: Seed = 0

    exceptions: ClassVar[Mapping[str, str]] = {
        "finds_planted_direction": "its features are drawn without looking at what they mean",
    }

    def __post_init__(self) -> None:
        """Refuse what the other method refuses."""
        create_method(self.reference, self.parameters)

    def weights(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Weight of each feature, `[d_sae]`; where the other method uses most features, its weights are shuffled."""
        method: Any = create_method(self.reference, self.parameters)
        given: torch.Tensor = method.weights(activations, layer)
        used, free = given.nonzero().ravel().numpy(), (given == 0).nonzero().ravel().numpy()
        generator = np.random.default_rng([self.seed, layer])
        pool = free if len(free) >= len(used) else np.arange(len(given))
        drawn = torch.zeros_like(given)
        drawn[generator.choice(pool, len(used), replace=False)] = given[used]
        return drawn
