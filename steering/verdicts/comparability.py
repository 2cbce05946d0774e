"""Whether values of a run can be compared with those of a baseline: what they were measured under."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from steering.profiles import Profile
from steering.results import (
    CONSTRUCTION,
    NEUTRAL_BUDGET,
    NORM_OF,
    OUTCOMES,
    SCALED_MULTIPLIER,
    SUCCESS,
    Configuration,
    Row,
)
from steering.sweeps.cells import Cell, norm_plan
from steering.verdicts.baselines import GATED, Baseline, BaselineCell, GatedMetric

#: What decides whether values can be compared, beside the schema and the settings of the measurement.
_DECIDING = ("dtype", "model_hash", "toward", "data_hash", "seed")
#: What says more than a hash to a reader, and decides nothing: equal weights may go by two names.
NAMES = {"model": "model_hash", "concept": "data_hash", "neutral": "data_hash"}
_HASH_LENGTH, _SHOWN_LENGTH = 64, 12
_MULTIPLIER_TOLERANCE = 1e-6
#: Where it follows from norms, too, which are rounded otherwise elsewhere; doses of a grid lie further apart.
_SCALED_TOLERANCE = 0.01


def circumstances(source: Row | Baseline) -> dict[str, Any]:
    """What decides whether values can be compared, by name; settings of the measurement are among it."""
    schema = source.row_schema_version if isinstance(source, Baseline) else source.schema_version
    measurement: dict[str, Any] = plain(source.measurement)
    return {"row_schema_version": schema} | {key: getattr(source, key) for key in _DECIDING} | measurement


def settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were set: without those that were measured, and what files are called.

    An SAE is known by its hash. A stored vector may be another than before, in a file of another name: to compare the
    two is what a gate can be there for, which remarks it.
    """
    names = {"path"} if parameters.get(CONSTRUCTION) == "stored" else set()
    names |= {"sae"} if "sae_hash" in parameters else set()
    found = {key: value for key, value in plain(parameters).items() if key not in OUTCOMES | names}
    if isinstance(scaled_to := found.get(NORM_OF), dict):
        found[NORM_OF] = settings(scaled_to)
    return found


def plain(value: Any) -> Any:
    """A value as it is read back from JSON, so that tuples equal lists."""
    return json.loads(json.dumps(value, allow_nan=False))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what two sets of circumstances or settings differ, each with both values."""
    differing = [key for key in before | now if before.get(key) != now.get(key)]
    if "dtype" in differing and "model_hash" in differing:  # it is of the weights as loaded
        differing.remove("model_hash")
    return [f"{key} is {shown(now.get(key))} and was {shown(before.get(key))}" for key in differing]


def shown(value: Any) -> str:
    """A value in a message; a hash is shortened."""
    is_hash = isinstance(value, str) and len(value) == _HASH_LENGTH
    return repr(f"{value[:_SHOWN_LENGTH]}…" if is_hash else value)


def obstacles(baseline: Baseline, row: Row) -> list[str]:
    """Why nothing of a run can be compared with a baseline, with a remedy where there is one.

    Args:
        baseline: What the run is to be held against.
        row: Any row of the run; of its fields, those of the run are looked at.
    """
    found = differences(*_both(baseline, row))
    rollouts = row.measurement.get("rollouts")
    if row.data_hash != baseline.data_hash and (row.concept, row.neutral) == (baseline.concept, baseline.neutral):
        found.append(f"the texts of {row.concept} or {row.neutral} are others, or another number of neutral documents")
    if row.dtype != baseline.dtype:
        found.append(f"run it with --dtype {baseline.dtype}, or hold it against a baseline in {row.dtype}")
    gated = any(SUCCESS in cell.scores for cell in baseline.cells)
    if gated and rollouts is not None and rollouts < baseline.required_rollouts:
        found.append(f"rollouts is {rollouts}, and at least {baseline.required_rollouts} are required")
    return found


def dose_difference(profile: Profile, planned: Cell, cell: BaselineCell) -> str:
    """In what the dose that a cell is planned to have differs from a baseline's, or an empty string.

    What follows from norms is known when it is measured; it differs in nothing here.
    """
    budget, was = profile.neutral_budget, cell.parameters.get(NEUTRAL_BUDGET)
    if budget != was:
        return f"the budget is {'none' if budget is None else budget}, and was {'none' if was is None else was}"
    follows = budget is not None or norm_plan(profile, planned.method) is not None or NORM_OF in cell.parameters
    if follows or math.isclose(planned.multiplier, cell.multiplier, rel_tol=_MULTIPLIER_TOLERANCE):
        return ""
    return f"multiplier is {planned.multiplier:g} and was {cell.multiplier:g}"


def cell_differences(baseline: Baseline, cell: BaselineCell, measured: Configuration) -> list[str]:
    """In what a cell as it was measured cannot be compared with the baseline's, each with both values.

    Args:
        baseline: What it is to be held against.
        cell: Of the baseline.
        measured: The cell as it was measured once.
    """
    row = measured.row
    before, now = _both(baseline, row)
    if row.lacks_vector:  # it has the profile's parameters, and a multiplier that no vector had
        before |= _as_parameters({NEUTRAL_BUDGET: cell.parameters.get(NEUTRAL_BUDGET)})
        now |= _as_parameters({NEUTRAL_BUDGET: row.parameters.get(NEUTRAL_BUDGET)})
    else:
        before |= _as_parameters(cell.parameters)
        now |= _as_parameters(row.parameters)
        if before.get("parameter sae_hash") != now.get("parameter sae_hash"):
            before["parameter sae"], now["parameter sae"] = cell.parameters.get("sae"), row.parameters.get("sae")
        given = SCALED_MULTIPLIER not in row.parameters  # what follows from norms alone is the vector's own affair
        tolerance = _SCALED_TOLERANCE if NORM_OF in row.parameters else _MULTIPLIER_TOLERANCE
        if given and not math.isclose(cell.multiplier, row.multiplier, rel_tol=tolerance):
            before["multiplier"], now["multiplier"] = cell.multiplier, row.multiplier
    sizes = (_size_difference(baseline, cell, metric, measured) for metric in GATED)
    return differences(before, now) + [text for text in sizes if text]


def _both(baseline: Baseline, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    """Circumstances of a baseline and of a run, with the names of what their hashes tell apart."""
    before, now = _but_rollouts(baseline), _but_rollouts(row)
    names = [name for name, hashed in NAMES.items() if before[hashed] != now[hashed]]
    of_baseline, of_row = ({name: getattr(source, name) for name in names} for source in (baseline, row))
    return of_baseline | before, of_row | now


def _but_rollouts(source: Row | Baseline) -> dict[str, Any]:
    """Circumstances without the number of rollouts, which may be lower than the baseline's."""
    return {key: value for key, value in circumstances(source).items() if key != "rollouts"}


def _as_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    return {f"parameter {key}": value for key, value in settings(parameters).items()}


def _size_difference(baseline: Baseline, cell: BaselineCell, metric: GatedMetric, measured: Configuration) -> str:
    """What is wrong with the number of a metric's items, or an empty string."""
    row, score = measured.get(metric.name), cell.scores.get(metric.name)
    if row is None or score is None or row.status != "ok":
        return ""
    if metric.paired and len(row.items) != score.n:
        return f"{metric.name} has {len(row.items)} items and had {score.n}"
    if not metric.paired and len(row.items) < baseline.required_rollouts:
        return f"{metric.name} has {len(row.items)} items, and at least {baseline.required_rollouts} are required"
    return ""
