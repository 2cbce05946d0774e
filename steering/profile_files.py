"""Reading profiles: the built-in ones and those of users, from TOML."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from steering.errors import DataError, UnknownNameError, require_known
from steering.files import read_toml
from steering.profiles import MethodPlan, Profile, SaeBounds

_KINDS = {str: "string", int: "whole number", float: "number", dict: "table", bool: "true or false"}


def builtin_profiles() -> list[str]:
    """Names of the profiles that ship with the package."""
    return sorted(path.stem for path in _builtin_root().glob("*.toml"))


def load_profile(reference: str) -> Profile:
    """Load a profile by the name of a built-in one or by path.

    Raises:
        UnknownNameError: There is no such profile, or the file has a key that profiles do not have.
        DataError: The file is malformed or a value makes no sense.
    """
    if reference in builtin_profiles():
        path = _builtin_root() / f"{reference}.toml"
    elif os.path.isfile(reference):  # noqa: PTH113 - False, not an error, for what cannot be a path
        path = Path(reference)
    else:
        raise UnknownNameError("profile", reference, builtin_profiles(), "Or give the path of a TOML file.")
    return _profile(path, read_toml(path))


def _builtin_root() -> Path:
    return Path(str(resources.files("steering"))) / "data" / "profiles"


def _profile(path: Path, table: dict[str, Any]) -> Profile:
    known = {key.name for key in dataclasses.fields(Profile)}
    require_known(f"key in {path}", table, known)
    required = {"description", "model", "concept", "neutral", "methods"}
    if missing := sorted(required - set(table)):
        raise DataError(f"{path}: missing {', '.join(missing)}")
    values = {"name": path.stem} | table
    profile = Profile(**{key: _value(path, key, value) for key, value in values.items()})
    for plan in profile.methods:
        for verb, named in (("claims", plan.claimed_layers), ("names", plan.layers or ())):
            if profile.layers is not None and (idle := set(named) - set(profile.layers)):
                raise DataError(
                    f"{path}: [methods.{plan.name}] {verb} layers {sorted(idle)}, which the profile does not run"
                )
    return profile


def _value(path: Path, key: str, value: Any) -> Any:
    """What a profile holds for what its file says."""
    if key == "methods":
        if not isinstance(value, dict):
            raise DataError(f"{path}: methods must be tables such as [methods.mean_difference]")
        return tuple(_method_plan(path, name, entry) for name, entry in value.items())
    if key == "layers":
        return None if value == "all" else _layers(path, key, value, "'all' or ")
    if key == "sae_bounds":
        return _sae_bounds(path, value)
    if key == "doses":
        return _numbers(path, key, value)
    default = 0.0 if key == "neutral_budget" else getattr(Profile, key, "")
    if not _same_kind(value, default):
        raise DataError(f"{path}: {key} is {value!r}; it must be a {_KINDS[type(default)]}")
    return float(value) if isinstance(default, float) else value


def _layers(path: Path, key: str, value: Any, or_else: str = "") -> tuple[int, ...]:
    if isinstance(value, list) and all(type(layer) is int and layer >= 0 for layer in value):
        return tuple(sorted(set(value)))
    raise DataError(f"{path}: {key} is {value!r}; it must be {or_else}a list of block numbers from 0")


def _numbers(path: Path, key: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, list) and all(_same_kind(number, 1.0) for number in value):
        return tuple(map(float, value))
    raise DataError(f"{path}: {key} is {value!r}; it must be a list of numbers")


def _names(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(type(name) is str for name in value):
        return tuple(value)
    raise DataError(f"{path}: {key} is {value!r}; it must be a list of names")


def _sae_bounds(path: Path, entry: Any) -> SaeBounds:
    known = {key.name for key in dataclasses.fields(SaeBounds)}
    if not isinstance(entry, dict):
        raise DataError(f"{path}: sae_bounds is {entry!r}; it must be a table")
    require_known(f"key in [sae_bounds] of {path}", entry, known)
    for key, value in entry.items():
        if not _same_kind(value, 1.0):
            raise DataError(f"{path}: {key} in [sae_bounds] is {value!r}; it must be a number")
    with _naming(path):
        return SaeBounds(**entry)


def _method_plan(path: Path, name: str, entry: Any) -> MethodPlan:
    known = {key.name for key in dataclasses.fields(MethodPlan)} - {"name"}
    if not isinstance(entry, dict) or not _same_kind(entry.get("multiplier"), 1.0):
        raise DataError(f"{path}: [methods.{name}] must be a table with a number 'multiplier'")
    require_known(f"key in [methods.{name}] of {path}", entry, known)
    for key, default in (("parameters", {}), ("method", ""), ("control", ""), ("norm_of", ""), ("is_control", False)):
        if key in entry and not _same_kind(entry[key], default):
            raise DataError(
                f"{path}: {key} of [methods.{name}] is {entry[key]!r}; it must be a {_KINDS[type(default)]}"
            )
    values = entry | {"multiplier": float(entry["multiplier"])}
    if "metrics" in entry:
        values["metrics"] = _names(path, f"[methods.{name}] metrics", entry["metrics"])
    for key in {"layers", "claimed_layers"} & set(entry):
        values[key] = _layers(path, f"[methods.{name}] {key}", entry[key])
    with _naming(path):
        return MethodPlan(name, **values)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in which file the fault is that a value finds with itself."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, float):
        # TOML's whole numbers have no end; one that no float can hold is none of the numbers that are meant.
        return isinstance(value, float) or (type(value) is int and abs(value) <= sys.float_info.max)
    return type(value) is type(default)
