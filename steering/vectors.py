"""Steering vectors with their provenance, and what it means to apply one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from steering.errors import NonFiniteError, SteeringError, VectorError, first_fault, one_line

_TENSOR = "direction"
_FEATURES = "features"
_METADATA = ("layer", "method", "concept", "model", "parameters")


@dataclass(frozen=True)
class FeatureWeight:
    """A feature of a sparse autoencoder in a vector.

    Attributes:
        feature: Its number.
        weight: What its decoder row is multiplied by.
        description: What it is about, where that is known.
    """

    feature: int
    weight: float
    description: str


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction in the residual stream.

    Attributes:
        direction: `[d_model]`, float32, as constructed: its norm is kept.
        layer: Block whose output it is added to, counted from 0.
        method: Name of the construction method.
        concept: Name of the concept.
        model: Name of the model.
        parameters: The method's parameters.
        features: The heaviest features that it is a sum of, where it is one.
    """

    direction: torch.Tensor
    layer: int
    method: str
    concept: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[FeatureWeight, ...] = ()

    def __post_init__(self) -> None:
        """Refuse anything but one finite float32 direction."""
        if self.direction.ndim != 1 or self.direction.dtype != torch.float32:
            shape, dtype = tuple(self.direction.shape), self.direction.dtype
            raise VectorError(f"{self.label}: a float32 direction [d_model] is required, found {dtype} {shape}")
        if self.direction.numel() == 0:
            raise VectorError(f"{self.label}: the direction is empty")
        if not bool(torch.isfinite(self.direction).all()):
            raise NonFiniteError(f"{self.label}: the direction holds NaN or infinity")
        if self.layer < 0:
            raise VectorError(f"{self.label}: layers are counted from 0")

    @property
    def label(self) -> str:
        """How messages call this vector."""
        return f"steering vector {self.method}-layer{self.layer}"

    @property
    def norm(self) -> float:
        """Euclidean norm of the direction."""
        return float(self.direction.norm())

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the direction's bytes and the layer."""
        digest = hashlib.sha256(self.direction.detach().cpu().contiguous().numpy().tobytes())
        digest.update(str(self.layer).encode())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write direction and provenance as one safetensors file.

        Raises:
            VectorError: The file cannot be written.
        """
        metadata = {
            "layer": str(self.layer),
            "method": self.method,
            "concept": self.concept,
            "model": self.model,
            "parameters": json.dumps(dict(self.parameters), sort_keys=True),
            _FEATURES: json.dumps([dataclasses.asdict(feature) for feature in self.features]),
        }
        try:
            save_file({_TENSOR: self.direction.detach().contiguous()}, str(path), metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise VectorError(f"{path}: {self.label} cannot be written: {error}") from None


def load_vector(path: Path) -> SteeringVector:
    """Read a vector that `SteeringVector.save` wrote.

    Raises:
        VectorError: The file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise VectorError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if missing := [key for key in _METADATA if key not in metadata]:
                raise VectorError(f"its metadata lack {', '.join(missing)}")
            parameters = json.loads(metadata["parameters"])
            if not isinstance(parameters, dict):
                raise VectorError(f"its parameters are {parameters!r}; an object is required")
            return SteeringVector(
                direction=file.get_tensor(_TENSOR),
                layer=int(metadata["layer"]),
                method=metadata["method"],
                concept=metadata["concept"],
                model=metadata["model"],
                parameters=parameters,
                features=_features(metadata.get(_FEATURES, "[]")),
            )
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError, SteeringError) as error:
        raise VectorError(f"{path}: not a steering vector file: {one_line(error)}") from None


def _features(text: str) -> tuple[FeatureWeight, ...]:
    try:
        return TypeAdapter(tuple[FeatureWeight, ...]).validate_json(text, strict=True)
    except ValidationError as error:
        raise VectorError(f"its features are damaged: {first_fault(error)}") from None


@dataclass(frozen=True)
class Intervention:
    """A steering vector times a multiplier, added to the residual stream at every prompt position.

    Generated positions are left alone, as in the paper. A multiplier of 0 leaves the model as it is, to the last bit.
    """

    vector: SteeringVector
    multiplier: float

    @property
    def addition(self) -> torch.Tensor:
        """What is added at each position, `[d_model]`, float32."""
        return self.vector.direction * self.multiplier
