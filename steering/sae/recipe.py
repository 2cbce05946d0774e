"""How a sparse autoencoder is trained: what its author chooses, and what SAELens's trainer is told."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from steering.errors import DataError


@dataclass(frozen=True)
class TrainingRecipe:
    """How to train.

    Attributes:
        tokens: Training tokens to capture.
        context_tokens: Length of the rows that the model reads.
        expansion: d_sae / d_model.
        k: Features that are active on a token.
        epochs: How often each token is seen.
        batch_size: Tokens of a step.
        learning_rate: Of Adam; warmed up over 100 steps or a tenth of all, decayed to 0 over the last third.
        dead_after_tokens: A feature that has not fired for so long is revived by the auxiliary loss.
        seed: Decides the choice and order of rows and the initial weights.
    """

    tokens: int = 3_000_000
    context_tokens: int = 128
    expansion: int = 8
    k: int = 48
    epochs: int = 1
    batch_size: int = 2048
    learning_rate: float = 2e-3
    dead_after_tokens: int = 200_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "seed" and not (0 < value < math.inf):
                raise DataError(f"SAE recipe: {field.name} is {value!r}; it must be above 0")
        if self.seed < 0:
            raise DataError(f"SAE recipe: seed is {self.seed}; it must be 0 or more")


@dataclass(frozen=True)
class TrainerSettings:
    """What a recipe means for one SAE of one model.

    Attributes:
        d_in: Width of the residual stream.
        d_sae: Number of features.
        k: Features that are active on a token.
        learning_rate: Of Adam.
        batch_size: Tokens of a step.
        steps: Of the whole training; the last third of them decays the learning rate to 0.
        dead_after_steps: A feature that has not fired for so long is revived.
        autocast: Whether products are computed in bfloat16.
        seed: Of the initial weights.
        metadata: What the SAE says of itself, for SAELens and for people.
    """

    d_in: int
    d_sae: int
    k: int
    learning_rate: float
    batch_size: int
    steps: int
    dead_after_steps: int
    autocast: bool
    seed: int
    metadata: dict[str, Any]
