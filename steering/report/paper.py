"""What the paper on gender steering vectors in GPT-2 small reports, read off its figures: ±0.02, without intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steering.results import Row

_GPT2_SMALL = ("gpt2", "gpt2-small")


@dataclass(frozen=True)
class PaperValues:
    """Values to show beside one's own.

    Attributes:
        method: The construction method that `success` and `norms` are of.
        multiplier: Of its vectors in `success`.
        success: Layer -> P(success).
        unsteered: P(success) without a vector, in the same figure.
        norms: Layer -> Euclidean norm of the vector.
        rollouts: Completions behind each P(success).
        best: Method -> the best P(success) among all its layers and multipliers.
        best_of: How many cells each of these is the best of.
        best_unsteered: P(success) without a vector, in the figures of `best`.
    """

    method: str
    multiplier: float
    success: Mapping[int, float]
    unsteered: float
    norms: Mapping[int, float]
    rollouts: int
    best: Mapping[str, float]
    best_of: int
    best_unsteered: float

    def fit(self, row: Row) -> bool:
        """Whether a row is of the paper's model, concept and side, so that the values may stand beside it."""
        model = row.model.rstrip("/").rsplit("/", maxsplit=1)[-1]
        return model in _GPT2_SMALL and row.concept == "gender" and row.toward == "positive"


#: Fig. 5 (P(success) at multiplier 3), Fig. 8 and 9 (the best of 5 layers × 8 multipliers), and the vectors' norms.
PAPER = PaperValues(
    method="mean_difference",
    multiplier=3.0,
    success=dict(enumerate((0.16, 0.15, 0.12, 0.12, 0.13, 0.07, 0.26, 0.54, 0.58, 0.58, 0.62, 0.86))),
    unsteered=0.23,
    norms=dict(enumerate((1.19, 1.49, 2.02, 2.67, 3.32, 4.14, 5.77, 12.07, 13.95, 18.11, 29.11, 47.44))),
    rollouts=200,
    best={"feature_delta": 0.32, "hand_crafted": 0.29},
    best_of=40,
    best_unsteered=0.20,
)
