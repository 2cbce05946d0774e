"""Every error that a user can cause, as one tree.

    SteeringError
    ├── UnknownNameError      a method, metric, profile, concept … that does not exist
    ├── DataError             a concept, a neutral file or a profile that cannot be used
    ├── ModelError            a model that cannot be loaded or is of an unknown family
    │   └── FetchError        the embedded model cannot be downloaded, verified or stored
    ├── EndpointError         a chat endpoint that refuses, or does not answer
    ├── SaeError              a sparse autoencoder that is missing, damaged, or does not fit the model
    ├── VectorError           a steering vector that does not fit the model or the file it is read from
    ├── NonFiniteError        NaN or infinity in an activation, a loss or a vector
    └── ResultsError          a results file or a baseline that cannot be written or read
        └── SchemaError       a baseline that another release wrote, in another schema

Each message says what was wrong, where, and what would be right; front ends print it without a traceback.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

from pydantic import ValidationError


class SteeringError(Exception):
    """Root of the errors that are reported to a user as one message."""


class UnknownNameError(SteeringError):
    """A name that is not among the known ones.

    Args:
        kind: What the name stands for, for instance "method".
        name: The name that was given.
        options: The names that exist.
        hint: A further remedy, appended to the message.
    """

    def __init__(self, kind: str, name: str, options: Iterable[str], hint: str = "") -> None:
        known = sorted(
            options, key=lambda option: (option.isdecimal(), int(option) if option.isdecimal() else 0, option)
        )
        near = [] if name.isdecimal() else difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        tail = f" {hint}" if hint else ""
        super().__init__(f"unknown {kind} {name!r}.{meant} Known: {', '.join(known) or 'none'}.{tail}")


def require_known(kind: str, names: Iterable[object], known: Iterable[object], hint: str = "") -> None:
    """Refuse the first of some names that is not among the known ones; arguments as those of the error.

    Raises:
        UnknownNameError: There is one.
    """
    known_names = set(known)
    for name in names:
        if name not in known_names:
            raise UnknownNameError(kind, str(name), map(str, known_names), hint)


class DataError(SteeringError):
    """A concept, neutral set or profile that is malformed; the message names file and line."""


class ModelError(SteeringError):
    """A model that cannot be loaded, or whose blocks cannot be found."""


class FetchError(ModelError):
    """The embedded model could not be downloaded, verified or stored."""


class EndpointError(SteeringError):
    """A chat endpoint that refuses, redirects, does not answer, or answers nothing that can be used."""


class SaeError(SteeringError):
    """A sparse autoencoder that is missing, damaged, or of another width or layer than asked for."""


class VectorError(SteeringError):
    """A steering vector of the wrong width or layer, or a damaged vector file."""


class NonFiniteError(SteeringError):
    """NaN or infinity where a finite number is required."""


class ResultsError(SteeringError):
    """A results directory or file, or a baseline, that cannot be written, read or compared."""


class SchemaError(ResultsError):
    """A baseline of another schema: it says nothing about this release's results."""


def one_line(error: Exception) -> str:
    """Another library's message on one line, or the error's type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_fault(error: ValidationError) -> str:
    """What is missing, or the first of the faults that pydantic found: where, what is there, what would be right."""
    faults = {".".join(map(str, fault["loc"])): fault for fault in error.errors()}
    if missing := [where for where, fault in faults.items() if fault["type"] == "missing"]:
        return f"missing {', '.join(missing)}"
    where, fault = next(iter(faults.items()))
    said = fault["msg"].removeprefix("Value error, ").replace("Input", "it", 1)
    return f"{where} is {reprlib.repr(fault['input'])}; {said}" if where else said


def first_line(error: Exception) -> str:
    """The first line of another library's message, or the error's type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
