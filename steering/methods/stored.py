"""A vector that was constructed before, or by another program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from steering.activations import ContrastActivations
from steering.errors import VectorError
from steering.methods import register
from steering.vectors import SteeringVector, load_vector


@register("stored")
@dataclass(frozen=True)
class Stored:
    """The vector of a file that `steering vector build` or `steering vector import` wrote.

    It is added at the layers that the plan names, whichever its file says that it is for. The concept's pairs do not
    enter into it.

    Attributes:
        path: The safetensors file, seen from the working directory.
    """

    path: str

    is_constructed: ClassVar[bool] = False
    exceptions: ClassVar[Mapping[str, str]] = {
        "finds_planted_direction": "it was constructed elsewhere, from other activations or none",
        "looks_at_its_own_layer": "it is the same at every layer",
        "swapping_sides_flips_sign": "it does not depend on the pairs",
    }

    def __post_init__(self) -> None:
        """Refuse a file that holds no vector, before anything is computed."""
        load_vector(Path(self.path))

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the file's direction `[d_model]`.

        Raises:
            VectorError: The file cannot be read any more, or its vector has another width than the model.
        """
        positive, _ = activations.at(layer)
        return load_fitting(Path(self.path), positive.shape[-1], activations.model).direction.to(positive)


def load_fitting(path: Path, d_model: int, model: str) -> SteeringVector:
    """Load a file's vector for a model of some width.

    Raises:
        VectorError: The file cannot be read, or its vector has another width.
    """
    vector = load_vector(path)
    if len(vector.direction) != d_model:
        raise VectorError(
            f"{path}: the vector has {len(vector.direction)} numbers, and the residual stream of {model} has {d_model}"
        )
    return vector
