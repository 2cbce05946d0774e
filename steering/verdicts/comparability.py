"""Whether values of a run can be compared with those of a baseline: what they were measured under."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from steering.results import Row
from steering.verdicts.baselines import ROLLOUTS, Baseline

#: What parameters hold of a measurement's outcome: no setting, and another by rounding on another machine.
OUTCOMES = frozenset({"development_loss_change"})
#: What decides whether values can be compared, beside the schema and the settings of the measurement.
_SHARED = ("dtype", "model_hash", "toward", "data_hash", "seed")


def circumstances(source: Row | Baseline) -> dict[str, Any]:
    """What decides whether values can be compared, by name; settings of the measurement are among it."""
    schema = source.row_schema_version if isinstance(source, Baseline) else source.schema_version
    measurement: dict[str, Any] = plain(source.measurement)
    return {"row_schema_version": schema} | {key: getattr(source, key) for key in _SHARED} | measurement


def settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were set, without those that were measured, and without where a stored vector lay."""
    place = {"path"} if parameters.get("construction") == "stored" else set()
    return {key: value for key, value in plain(parameters).items() if key not in OUTCOMES | place}


def plain(value: Any) -> Any:
    """A value as it is read back from JSON, so that tuples equal lists."""
    return json.loads(json.dumps(value, allow_nan=False))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what two sets of circumstances or settings differ, each with both values."""
    differing = [key for key in before | now if before.get(key) != now.get(key)]
    if "dtype" in differing and "model_hash" in differing:  # it is of the weights as loaded
        differing.remove("model_hash")
    return [f"{key} is {now.get(key)!r} and was {before.get(key)!r}" for key in differing]


def obstacles(baseline: Baseline, row: Row) -> list[str]:
    """Why nothing of a run can be compared with a baseline, with a remedy where there is one.

    Args:
        baseline: What the run is to be held against.
        row: Any row of the run; of its fields, those of the run are looked at.
    """
    before, now = circumstances(baseline), circumstances(row)
    before.pop("rollouts", None)
    rollouts = now.pop("rollouts", None)
    found = differences(before, now)
    if row.dtype != baseline.dtype:
        found.append(f"run it with --dtype {baseline.dtype}, or hold it against a baseline in {row.dtype}")
    gated = any(ROLLOUTS in cell.scores for cell in baseline.cells)
    if gated and rollouts is not None and rollouts < baseline.required_rollouts:
        found.append(f"rollouts is {rollouts}, and at least {baseline.required_rollouts} are required")
    return found
