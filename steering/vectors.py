"""Steering vectors with their provenance, and what it means to apply one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from steering.errors import (
    NonFiniteError,
    ResultsError,
    SteeringError,
    VectorError,
    first_fault,
    one_line,
    require_known,
)
from steering.feature_weights import FeatureWeight
from steering.files import write_file
from steering.paths import is_directory, is_file
from steering.positions import Positions
from steering.results import LARGEST

_TENSOR = "direction"
_FEATURES = "features"
_ORIGIN = "origin"
_MULTIPLIER = "recommended_multiplier"
_METADATA = ("layer", "method", "concept", "model", "parameters")
#: A direction of the widest models takes a hundredth of it: nothing larger is read from what may be anybody's file.
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Origin:
    """What a vector was constructed from, as far as it is known: a file of an earlier release leaves all of it empty.

    Attributes:
        model_hash: SHA-256 of the model's weights as loaded.
        model_type: The model's family, as its Hugging Face configuration calls it.
        layer_count: Number of the model's blocks.
        dtype: Of the model's weights.
        concept_hash: SHA-256 of the concept, its orientation included.
        toward: Side of the concept that the vector steers towards.
        sae: The sparse autoencoder that was read, where one was.
        sae_hash: SHA-256 of its weights.
        steered_positions: Which were steered in the texts whose losses the method followed, where it followed any.
        versions: Package -> version.
    """

    model_hash: str = ""
    model_type: str = ""
    layer_count: int | None = None
    dtype: str = ""
    concept_hash: str = ""
    toward: str = ""
    sae: str = ""
    sae_hash: str = ""
    steered_positions: Positions | Literal[""] = ""
    versions: Mapping[str, str] = field(default_factory=dict)


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
        origin: What it was constructed from.
        recommended_multiplier: The dose that whoever built it recommends.
    """

    direction: torch.Tensor
    layer: int
    method: str
    concept: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[FeatureWeight, ...] = ()
    origin: Origin = Origin()
    recommended_multiplier: float | None = None

    def __post_init__(self) -> None:
        """Refuse anything but one finite float32 direction."""
        if self.direction.ndim != 1 or self.direction.dtype != torch.float32:
            shape, dtype = tuple(self.direction.shape), self.direction.dtype
            raise VectorError(f"{self.label}: a float32 direction [d_model] is required, found {dtype} {shape}")
        if self.direction.numel() == 0:
            raise VectorError(f"{self.label}: the direction is empty")
        if not bool(torch.isfinite(self.direction).all()):
            raise NonFiniteError(f"{self.label}: the direction holds NaN or infinity")
        if type(self.layer) is not int or self.layer < 0:
            raise VectorError(f"{self.label}: its layer is {self.layer!r}; layers are whole numbers, counted from 0")
        if self.origin.layer_count is not None and self.layer >= self.origin.layer_count:
            raise VectorError(f"{self.label}: its model has {self.origin.layer_count} blocks, counted from 0")
        if self.recommended_multiplier is not None and not abs(self.recommended_multiplier) <= LARGEST:
            recommended = f"its recommended multiplier is {self.recommended_multiplier}"
            raise NonFiniteError(f"{self.label}: {recommended}; {LARGEST:g} is the largest")

    @property
    def label(self) -> str:
        """How messages call this vector."""
        return f"steering vector {self.method}-layer{self.layer}"

    @property
    def norm(self) -> float:
        """Euclidean norm of the direction."""
        norm = float(self.direction.norm())
        if 1e-15 < norm < math.inf:
            return norm
        return float(self.direction.double().norm())  # the squares are too large or too small for float32

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the direction's bytes and the layer."""
        digest = hashlib.sha256(self.direction.detach().cpu().contiguous().numpy().tobytes())
        digest.update(str(self.layer).encode())
        return digest.hexdigest()

    def save(self, path: Path | str) -> None:
        """Write direction and provenance as one safetensors file, whole or not at all.

        What is not known is left out, so that the file is what earlier releases wrote and read.

        Raises:
            VectorError: The file cannot be written, and what was there before is kept; or the provenance is no JSON.
        """
        try:
            content = save({_TENSOR: self.direction.detach().cpu().contiguous()}, metadata=self._metadata())
            write_file(Path(path), content)
        except (ResultsError, SafetensorError, TypeError, UnicodeEncodeError) as error:
            raise VectorError(f"{self.label}: {one_line(error)}") from None

    def _metadata(self) -> dict[str, str]:
        metadata = {
            "layer": str(self.layer),
            "method": self.method,
            "concept": self.concept,
            "model": self.model,
            "parameters": json.dumps(dict(self.parameters), sort_keys=True),
            _FEATURES: json.dumps([dataclasses.asdict(feature) for feature in self.features]),
        }
        if self.origin != Origin():
            metadata[_ORIGIN] = json.dumps(dataclasses.asdict(self.origin), sort_keys=True)
        if self.recommended_multiplier is not None:
            metadata[_MULTIPLIER] = json.dumps(self.recommended_multiplier)
        return metadata


def is_steering_vector(metadata: Mapping[str, str] | None) -> bool:
    """Whether metadata of a safetensors file are such as `SteeringVector.save` writes."""
    return set(_METADATA) <= set(metadata or {})


def load_vector(path: Path | str) -> SteeringVector:
    """Read a vector that `SteeringVector.save` wrote, or that claims to be one.

    Nothing in the file is trusted: its size is bounded before it is opened, each entry has its type, and no number of
    the direction may be NaN or infinite. Safetensors holds no code.

    Raises:
        VectorError: The file is missing, damaged, too large, or holds something else.
    """
    path = Path(path)
    if not is_file(path):
        raise VectorError(f"{path}: {'a directory, not a file' if is_directory(path) else 'no such file'}")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise VectorError(f"{path}: not a steering vector file: {size} bytes; at most {MAX_BYTES} are read")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if missing := [key for key in _METADATA if key not in metadata]:
                raise VectorError(f"its metadata lack {', '.join(missing)}")
            return SteeringVector(
                direction=file.get_tensor(_TENSOR),
                layer=int(metadata["layer"]),
                method=metadata["method"],
                concept=metadata["concept"],
                model=metadata["model"],
                parameters=_parsed(metadata, "parameters", dict[str, Any], {}),
                features=_parsed(metadata, _FEATURES, tuple[FeatureWeight, ...], ()),
                origin=_parsed(metadata, _ORIGIN, Origin, Origin()),
                recommended_multiplier=_parsed(metadata, _MULTIPLIER, float, None),
            )
    except (OSError, SafetensorError, KeyError, ValueError, SteeringError) as error:
        message = f"{path}: not a steering vector file: {one_line(error)}"
        raise VectorError(f"{message}. `steering vector import` reads files of other programs") from None


def _parsed(metadata: Mapping[str, str], key: str, kind: Any, absent: Any) -> Any:
    """An entry of the metadata, written as JSON, as a value of some type."""
    if key not in metadata:
        return absent
    try:
        return TypeAdapter(kind).validate_json(metadata[key], strict=True)
    except ValidationError as error:
        raise VectorError(f"{key} is damaged: {first_fault(error)}") from None


@dataclass(frozen=True)
class Intervention:
    """A steering vector times a multiplier, added to the residual stream.

    A multiplier of 0 leaves the model as it is, to the last bit.

    Attributes:
        vector: The direction, at its own norm.
        multiplier: Dose: what the direction is multiplied by.
        positions: Where it is added: "prompt", as in the paper, or "all", also to the tokens that follow the prompt.
    """

    vector: SteeringVector
    multiplier: float
    positions: Positions = "prompt"

    def __post_init__(self) -> None:
        """Refuse positions that there are not, and a dose that is no number."""
        require_known("positions", [self.positions], get_args(Positions))
        if not isinstance(self.multiplier, Real):
            raise VectorError(f"{self.vector.label}: its multiplier is {self.multiplier!r}; give a number")

    @property
    def is_everywhere(self) -> bool:
        """Whether it is also added to the tokens that follow the prompt."""
        return self.positions == "all"

    @property
    def addition(self) -> torch.Tensor:
        """What is added at each position, `[d_model]`, float32."""
        return self.vector.direction * self.multiplier
