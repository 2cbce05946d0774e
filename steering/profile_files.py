"""Reading profiles: the built-in ones and those of users, from TOML."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from steering.errors import DataError, UnknownNameError, first_fault, require_known
from steering.files import read_toml
from steering.paths import data_directory, is_file
from steering.profiles import MethodPlan, Profile, SaeBounds

_PROFILE = TypeAdapter(Profile)


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
    elif is_file(reference):
        path = Path(reference)
    else:
        raise UnknownNameError("profile", reference, builtin_profiles(), "Or give the path of a TOML file.")
    return _profile(path, read_toml(path))


def _builtin_root() -> Path:
    return data_directory("profiles")


def _profile(path: Path, table: dict[str, Any]) -> Profile:
    plans = table.get("methods", {})
    if not isinstance(plans, dict):
        raise DataError(f"{path}: methods must be tables such as [methods.mean_difference]")
    require_known(f"key in {path}", table, _keys(Profile))
    for name, entry in plans.items():
        _require_table(path, f"[methods.{name}]", entry, _keys(MethodPlan) - {"name"})
        if entry.get("metrics") == []:
            raise DataError(f"{path}: [methods.{name}] metrics is empty; name at least one, or leave it out")
    _require_table(path, "[sae_bounds]", table.get("sae_bounds", {}), _keys(SaeBounds))
    values = {"name": path.stem} | table | {"methods": [{"name": name} | entry for name, entry in plans.items()]}
    if values.get("layers") == "all":
        del values["layers"]
    try:
        profile = _PROFILE.validate_json(json.dumps(values), strict=True)
    except TypeError as error:  # TOML has dates, JSON and profiles have none
        raise DataError(f"{path}: {error}") from None
    except ValidationError as error:
        raise DataError(f"{path}: {_named(first_fault(error), plans)}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    _refuse_idle_layers(path, profile)
    return profile


def _refuse_idle_layers(path: Path, profile: Profile) -> None:
    """Refuse plans that name layers, or claim some, which the profile does not run."""
    for plan in profile.methods:
        for verb, named in (("claims", plan.claimed_layers), ("names", plan.layers or ())):
            if profile.layers is not None and (idle := set(named) - set(profile.layers)):
                raise DataError(
                    f"{path}: [methods.{plan.name}] {verb} layers {sorted(idle)}, which the profile does not run"
                )


def _keys(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _require_table(path: Path, name: str, entry: object, keys: set[str]) -> None:
    """Refuse what is no table, and a table with other keys."""
    if not isinstance(entry, dict):
        raise DataError(f"{path}: {name} is {entry!r}; it must be a table")
    require_known(f"key in {name} of {path}", entry, keys)


def _named(fault: str, plans: Iterable[str]) -> str:
    """A fault, with the name of a plan in place of its number."""
    for number, name in enumerate(plans):
        fault = fault.replace(f"methods.{number}.", f"[methods.{name}] ", 1)
    return fault
