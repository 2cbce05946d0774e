"""A vector that gradient descent looks for, from the mean difference on (the paper's negative result, section V)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from steering.activations import ContrastActivations, LossFunction
from steering.errors import NonFiniteError
from steering.methods import Count, Seed, register
from steering.methods.mean_difference import MeanDifference

#: Kind of text, sign of the vector under which it is read, and of its term in what is minimised.
_TERMS = {
    "positive_added": ("positive", 1, 1),
    "negative_added": ("negative", 1, -1),
    "negative_subtracted": ("negative", -1, 1),
    "positive_subtracted": ("positive", -1, -1),
    "neutral_added": ("neutral", 1, 1),
}


@register("optimized")
@dataclass(frozen=True)
class Optimized:
    """Minimises a weighted sum of losses by Adam, over batches of pairs and neutral documents.

    With v the vector times `dose`, that is

        positive_added loss(positive | +v) - negative_added loss(negative | +v)
        + negative_subtracted loss(negative | -v) - positive_subtracted loss(positive | -v)
        + neutral_added loss(neutral | +v)

    Attributes:
        positive_added: Weight of its term.
        negative_added: Weight of its term.
        negative_subtracted: Weight of its term.
        positive_subtracted: Weight of its term.
        neutral_added: Weight of its term.
        dose: Multiplier under which the vector is to work.
        steps: Of Adam.
        learning_rate: Of Adam, as a part of the mean difference's root mean square.
        batch: Texts of each kind in a step.
        seed: Of the choice of batches.
    """

    positive_added: float = 1.0
    negative_added: float = 1.0
    negative_subtracted: float = 1.0
    positive_subtracted: float = 1.0
    neutral_added: float = 1.0
    dose: float = 1.0
    steps: Count = 20
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    batch: Count = 8
    seed: Seed = 0

    needs_losses: ClassVar[bool] = True
    exceptions: ClassVar[Mapping[str, str]] = {
        "swapping_sides_flips_sign": "neutral documents are read under +v alone, and the sides' weights may differ",
    }

    def __post_init__(self) -> None:
        """Refuse what would move nothing."""
        if not self.dose:
            raise ValueError("a dose of 0 steers nothing")
        if not any(getattr(self, name) for name in _TERMS):
            raise ValueError("at least one weight must differ from 0")

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the vector that the last step leaves `[d_model]`.

        Raises:
            NonFiniteError: A step met NaN or infinity.
        """
        losses = activations.losses_at(layer)
        start = MeanDifference().fit(activations, layer)
        # By the ids, so that the batches are the same in whatever order the pairs come.
        pairs = sorted(range(len(activations.pair_ids)), key=activations.pair_ids.__getitem__)
        direction = start.clone().requires_grad_()
        rate = self.learning_rate * float(start.square().mean().sqrt())
        optimizer = torch.optim.Adam([direction], lr=rate)
        generator = torch.Generator().manual_seed(self.seed)
        for step in range(self.steps):
            drawn = _drawn(len(pairs), self.batch, generator)
            documents = _drawn(losses.count("neutral"), self.batch, generator)
            direction.grad = self._gradient(losses, [pairs[index] for index in drawn], documents, direction)
            if not bool(torch.isfinite(direction.grad).all()):
                raise NonFiniteError(f"layer {layer}: NaN or infinity in step {step + 1} of the optimisation")
            optimizer.step()
        return direction.detach()

    def _gradient(
        self, losses: LossFunction, pairs: list[int], documents: list[int], direction: torch.Tensor
    ) -> torch.Tensor:
        """Of what is minimised, term by term: what one of them keeps for its gradient is gone before the next."""
        total = torch.zeros_like(direction)
        for name, (kind, side, sign) in _TERMS.items():
            if weight := getattr(self, name):
                rows = documents if kind == "neutral" else pairs
                [slope] = torch.autograd.grad(losses(kind, rows, side * self.dose * direction), direction)
                total += sign * weight * slope
        return total


def _drawn(count: int, batch: int, generator: torch.Generator) -> list[int]:
    """Some of `count` things, each at most once."""
    found: list[int] = torch.randperm(count, generator=generator)[:batch].tolist()
    return found
