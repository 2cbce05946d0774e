"""Doses by budget: how much of a vector neutral text bears.

Vectors of different methods have different norms, so that equal multipliers say nothing. Each is given the dose that
does the same damage: the largest multiplier at which the neutral loss change stays within a budget. It is looked for on
development documents, and what it does is measured on others, unless the run is on the development split itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from steering.errors import NonFiniteError, VectorError
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText
from steering.progress import Reporter
from steering.vectors import Intervention


@dataclass(frozen=True)
class Budget:
    """What doses are looked for by.

    Attributes:
        change: The neutral loss change that a dose may cause, nats per continuation token.
        multipliers: The grid, rising, all above 0.
    """

    change: float
    multipliers: tuple[float, ...]


@dataclass(frozen=True)
class Dose:
    """A dose that was found.

    Attributes:
        factor: What the intervention is multiplied by; one of the grid.
        change: Mean loss change of the development documents at that dose, nats per continuation token.
    """

    factor: float
    change: float


class DoseFinder:
    """Finds doses on development documents.

    Args:
        model: The model to steer.
        documents: With their prompt boundary.
        budget: What the documents bear.
        progress: Where to report.
    """

    def __init__(
        self, model: LanguageModel, documents: Sequence[TokenizedText], budget: Budget, progress: Reporter
    ) -> None:
        self._budget = budget
        self._progress = progress
        self._losses = ContinuationLosses(model, documents, "development")
        self._unsteered: np.ndarray = self._losses.measure([None], progress)[0]

    def find(self, unit: Intervention) -> Dose:
        """Find the largest factor of the grid by bisection: damage is taken to grow with the dose.

        The factor found keeps the budget, and the next of the grid, where there is one, does not. A loss that is NaN or
        infinite is beyond every budget.

        Args:
            unit: The intervention that a factor of 1 stands for.

        Raises:
            VectorError: Even the smallest factor exceeds the budget.
            NonFiniteError: Even under the smallest factor a loss is NaN or infinite.
        """
        grid, within, beyond = self._budget.multipliers, -1, len(self._budget.multipliers)
        changes: dict[int, float] = {}
        while beyond - within > 1:
            middle = (within + beyond) // 2
            changes[middle] = self._change(unit, grid[middle])
            if changes[middle] <= self._budget.change:
                within = middle
            else:
                beyond = middle
        if within < 0:
            if math.isinf(changes[0]):
                raise NonFiniteError(f"{unit.vector.label}: a loss is NaN or infinite already at {grid[0]:g} times it")
            raise VectorError(
                f"{unit.vector.label}: already {grid[0]:g} times the vector changes the neutral loss by "
                f"{changes[0]:+.3f} nats per token, which is beyond the budget of {self._budget.change:g}"
            )
        return Dose(grid[within], changes[within])

    def _change(self, unit: Intervention, factor: float) -> float:
        try:
            steered = self._losses.measure([replace(unit, multiplier=unit.multiplier * factor)], self._progress)[0]
        except NonFiniteError:
            return math.inf
        return float((steered - self._unsteered).mean())
