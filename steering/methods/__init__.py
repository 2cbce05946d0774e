"""Construction methods: from activations to a direction.

To add one, put a module here with a frozen dataclass whose fields are its parameters:

    @register("my_method")
    @dataclass(frozen=True)
    class MyMethod:
        strength: float = 1.0

        def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor: ...

The conformance suite in tests/methods/test_methods.py then runs over it. A method that cannot keep one of its
properties says so in `exceptions`, by property, with the reason. A method that reads feature activations says
`needs_sae = True`; one whose vector is a sum of features is a `SumOfFeatures`. One that follows the gradient of losses
says `needs_losses = True` and calls `activations.losses_at(layer)`.
"""

from __future__ import annotations

import dataclasses
import json
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import torch
from pydantic import Field, TypeAdapter, ValidationError

from steering.activations import ContrastActivations
from steering.errors import DataError, SteeringError, VectorError, first_fault, first_line, require_known
from steering.feature_weights import FeatureWeight
from steering.registry import Registry
from steering.sae.features import heaviest_features
from steering.vectors import SteeringVector


class Method(Protocol):
    """A construction method; its dataclass fields are its parameters.

    Class variables say what more it takes: `needs_sae`, that it reads feature activations; `needs_losses`, that it
    follows the gradient of losses; `is_constructed = False`, that its vector comes from a file; `exceptions`, which
    properties of the conformance suite it cannot keep, and why.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the direction `[d_model]` at one layer, pointing to the positive side, in the activations' dtype.

        Args:
            activations: Of the pairs, at this layer among others.
            layer: Block whose output the vector is for, from 0.
        """
        ...


class SumOfFeatures(ABC):
    """A method whose vector is a sum of decoder rows of an SAE; subclasses say with which weights."""

    needs_sae: ClassVar[bool] = True

    @abstractmethod
    def weights(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the weight of each feature, `[d_sae]`; 0 for those that are left out."""

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        """Return the decoded sum `[d_model]`; the decoder's bias, which cancels in a difference, is left out."""
        return activations.decode_at(layer, self.weights(activations, layer))


methods: Registry[type[Method]] = Registry("method", __name__)
register = methods.register


#: Of random numbers.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: Of things of which there must be one.
Count = Annotated[int, Field(ge=1)]

# Of a vector that is a sum of thousands of features, the heaviest say what it is about.
_SHOWN_FEATURES = 20


def needs_sae(name: str) -> bool:
    """Whether the method of a name reads feature activations, so that it is for layers that have an SAE alone."""
    return bool(getattr(methods[name], "needs_sae", False))


def needs_losses(name: str) -> bool:
    """Whether the method of a name follows the gradient of losses, so that it needs a model behind the activations."""
    return bool(getattr(methods[name], "needs_losses", False))


def is_constructed(name: str) -> bool:
    """Whether the method of a name constructs vectors from activations, and does not read them from files."""
    return bool(getattr(methods[name], "is_constructed", True))


def create_method(name: str, parameters: Mapping[str, Any]) -> Method:
    """Create a method by name.

    Args:
        name: A registered method.
        parameters: Its parameters; those left out take their defaults.

    Raises:
        UnknownNameError: There is no such method, or it has no such parameter.
        DataError: A parameter has a value that it cannot take.
    """
    plugin = methods[name]
    if not dataclasses.is_dataclass(plugin):
        raise DataError(f"method {name!r}: its class is no dataclass; put @dataclass(frozen=True) before it")
    known = {field.name for field in dataclasses.fields(plugin)}
    require_known(f"parameter of method {name}", parameters, known)
    try:
        written = json.dumps(dict(parameters), allow_nan=False)
    except (TypeError, ValueError) as error:  # a date of TOML's, or NaN
        raise DataError(f"method {name!r}: its parameters are no JSON: {error}") from None
    try:
        method = TypeAdapter(plugin).validate_json(written, strict=True)
    except ValidationError as error:
        raise DataError(f"method {name!r}: {first_fault(error)}") from None
    try:
        _settings(method)
    except (TypeError, ValueError) as error:
        raise DataError(f"method {name!r}: a parameter cannot be written as JSON: {first_line(error)}") from None
    return method


def construct(
    name: str, activations: ContrastActivations, layer: int, parameters: Mapping[str, Any] | None = None
) -> SteeringVector:
    """Construct a steering vector with its provenance.

    Args:
        name: A registered method.
        activations: Captured at `layer`, among others.
        layer: Block whose output the vector is for.
        parameters: Of the method; those left out take their defaults.

    Raises:
        UnknownNameError: Unknown method, parameter or layer.
        DataError: A parameter has a value that it cannot take.
        SaeError: The method reads features, and the layer has no SAE, or none of its features can be used.
        VectorError: What the method returns is no direction of the activations' width, or its code fails.
        NonFiniteError: The direction is not finite.
    """
    method = create_method(name, parameters or {})
    try:
        direction, features = _fitted(method, activations, layer)
    except SteeringError:
        raise
    except Exception as error:
        raise VectorError(f"method {name!r} failed: {_described(error)}") from error
    wanted = activations.positive.shape[2:]
    if not isinstance(direction, torch.Tensor) or direction.shape != wanted:
        found = f"shape {tuple(direction.shape)}" if isinstance(direction, torch.Tensor) else type(direction).__name__
        raise VectorError(f"method {name!r} returned {found}; a tensor of shape {tuple(wanted)} is required")
    return SteeringVector(
        direction.float(), layer, name, activations.concept, activations.model, _settings(method), features
    )


def _fitted(
    method: Method, activations: ContrastActivations, layer: int
) -> tuple[torch.Tensor, tuple[FeatureWeight, ...]]:
    """A method's direction, and the heaviest features where it is a sum of features."""
    if not isinstance(method, SumOfFeatures):
        return method.fit(activations, layer), ()
    weights, descriptions = method.weights(activations, layer), activations.features_at(layer).descriptions
    return activations.decode_at(layer, weights), heaviest_features(weights, descriptions, _SHOWN_FEATURES)


def _described(error: Exception) -> str:
    """An error of a method's code, with the last place in it: the method may be anybody's."""
    frames = traceback.extract_tb(error.__traceback__)[2:]  # after `construct` and `_fitted`
    own = [frame for frame in frames if frame.filename == frames[0].filename]  # none where it could not be called
    place = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in own[-1:])
    return f"{type(error).__name__}: {first_line(error)}{place}"


def _settings(method: Method) -> dict[str, Any]:
    """A method's parameters as JSON reads them back: keys are text, so that rows are the same before and after."""
    read: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(method), default=_as_json, allow_nan=False))
    return read


def _as_json(value: object) -> object:
    """What stands in JSON for a value that it does not know; a set in one order, whichever process writes it."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__}")
