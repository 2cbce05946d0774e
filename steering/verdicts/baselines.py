"""Baselines: what later runs are held against, as a JSON file with one line for each cell."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from steering.errors import ResultsError, SchemaError, first_fault
from steering.files import make_directory, require_each_key_once, write_file
from steering.results import NEGATIVE_CHANGE, NEUTRAL_CHANGE, POSITIVE_CHANGE, SUCCESS, cell_id

SCHEMA_VERSION = 1
#: Most that the levels of all gated metrics add up to: one gate in twenty may raise a false alarm.
FAMILY_WISE_ERROR = 0.05

# What is read back is checked: no unknown key, no string for a number, no NaN.
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class GatedMetric:
    """A metric that the gate watches.

    Attributes:
        name: Of the metric.
        higher_is_better: Which direction is a regression: down, if so.
        paired: Whether the items are the same texts in every run. Rollouts are not: a baseline may bank more of them.
        level: Its share of the family-wise error; Holm's adjustment spends it once over all cells.
        margin: A change for the worse that is tolerated: a difference of probabilities, or nats per token.
    """

    name: str
    higher_is_better: bool
    paired: bool
    level: float
    margin: float


GATED = (
    GatedMetric(SUCCESS, higher_is_better=True, paired=False, level=0.04, margin=0.0),
    GatedMetric(NEUTRAL_CHANGE, higher_is_better=False, paired=True, level=0.004, margin=0.01),
    GatedMetric(POSITIVE_CHANGE, higher_is_better=False, paired=True, level=0.003, margin=0.01),
    GatedMetric(NEGATIVE_CHANGE, higher_is_better=True, paired=True, level=0.003, margin=0.01),
)


@dataclass(frozen=True)
class BaselineScore:
    """One metric of a cell.

    Attributes:
        value: Mean of the items.
        n: Their number.
        items: Per-item values.
    """

    value: float
    n: int
    items: tuple[float, ...]

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class BaselineCell:
    """What was measured of one method at one layer; the fields are those of `steering.results.Row`.

    Attributes:
        method: The profile's name of the method.
        layer: Block whose output was steered, from 0.
        multiplier: Of the vector.
        parameters: Of the method.
        vector_hash: Of the vector.
        vector_norm: Euclidean norm of the vector before the multiplier.
        device: Where it was computed.
        scores: Gated metric -> score.
    """

    method: str
    layer: int
    multiplier: float
    parameters: dict[str, Any]
    vector_hash: str
    vector_norm: float | None
    device: str
    scores: dict[str, BaselineScore]

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    @property
    def key(self) -> tuple[str, int]:
        """Method and layer, which no two cells of a baseline share."""
        return self.method, self.layer

    @property
    def added_norm(self) -> float | None:
        """Length of what was added: the vector's times the multiplier; None where it is not known."""
        return None if self.vector_norm is None else abs(self.multiplier) * self.vector_norm

    @property
    def id(self) -> str:
        """The id of the benchmark's test."""
        return cell_id(self.method, self.layer)


@dataclass(frozen=True)
class Baseline:
    """Values that a run is held against, with the circumstances in which they can be compared.

    Attributes:
        schema_version: Of this record.
        row_schema_version: Of the results that it was promoted from.
        model: Name of the model.
        model_hash: SHA-256 of its weights as loaded.
        dtype: Of the weights.
        concept: Name of the concept.
        toward: Side of the concept that is steered towards.
        neutral: Name of the neutral set.
        data_hash: Of concept and neutral documents.
        seed: Of sampling.
        measurement: As in results; a later run may have another number of rollouts.
        required_rollouts: Fewest that a later run needs.
        margins: Gated metric -> change for the worse that is tolerated.
        levels: Gated metric -> share of the family-wise error.
        versions: Package -> version, of the environment that measured; empty where the results did not say.
        cells: By method and layer.
    """

    schema_version: int
    row_schema_version: int
    model: str
    model_hash: str
    dtype: str
    concept: str
    toward: str
    neutral: str
    data_hash: str
    seed: int
    measurement: dict[str, Any]
    required_rollouts: int
    margins: dict[str, float]
    levels: dict[str, float]
    versions: dict[str, str]
    cells: tuple[BaselineCell, ...]

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def __post_init__(self) -> None:
        """Refuse what no gate could use.

        Raises:
            ResultsError: The message says what is wrong.
        """
        for fault in _faults(self):
            raise ResultsError(fault)

    def to_json(self) -> str:
        """Strict JSON, indented, with each cell on one line so that differences can be read."""
        fields = dataclasses.asdict(self)
        cells = ",\n".join("  " + _dumped(_compact(cell)) for cell in fields.pop("cells"))
        head = ",\n".join(f" {_dumped(key)}: {_dumped(value)}" for key, value in fields.items())
        return f'{{\n{head},\n "cells": [\n{cells}\n ]\n}}\n'


@dataclass(frozen=True)
class _Versioned:
    """What a baseline of any schema has."""

    schema_version: int


_BASELINE, _VERSIONED = TypeAdapter(Baseline), TypeAdapter(_Versioned)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        SchemaError: Another release wrote it, in another schema.
        ResultsError: There is no such file, or it is damaged; the message says where.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such baseline; `steering baseline promote` writes one") from None
    except IsADirectoryError:
        raise ResultsError(f"{path}: a directory; `steering baseline promote` makes a baseline of results") from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        require_each_key_once(content)
        version = _VERSIONED.validate_json(content).schema_version
        if version != SCHEMA_VERSION:
            raise SchemaError(
                f"{path}: a baseline of schema version {version}; this release reads {SCHEMA_VERSION}. "
                "Promote a run again."
            )
        return _BASELINE.validate_json(content)
    except ValidationError as error:
        raise ResultsError(f"{path}: not a baseline: {first_fault(error)}") from None
    except SchemaError:
        raise
    except (ResultsError, ValueError) as error:
        raise ResultsError(f"{path}: not a baseline: {error}") from None


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline; a reader sees the old one or the new one, whole.

    Raises:
        ResultsError: It cannot be written; what was there before is kept.
    """
    make_directory(path.parent)
    write_file(path, baseline.to_json().encode())


def _dumped(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _compact(cell: dict[str, Any]) -> dict[str, Any]:
    """The cell with whole numbers among its items as such: a rollout is 0 or 1, not 0.0 or 1.0."""
    scores = {
        name: score | {"items": [int(item) if item.is_integer() else item for item in score["items"]]}
        for name, score in cell["scores"].items()
    }
    return cell | {"scores": scores}


def _is_json(value: Any) -> bool:
    try:
        _dumped(value)
    except (TypeError, ValueError):
        return False
    return True


def _faults(baseline: Baseline) -> list[str]:
    names = {metric.name for metric in GATED}
    faults = [
        f"{key} are of {sorted(found)}; they must be of {sorted(names)}"
        for key in ("margins", "levels")
        if (found := set(getattr(baseline, key))) != names
    ]
    if any(margin < 0 for margin in baseline.margins.values()):
        faults.append(f"margins {baseline.margins} must not be below 0")
    if baseline.margins.get(SUCCESS, 0) >= 1:
        faults.append(f"the margin of {SUCCESS} is {baseline.margins[SUCCESS]:g}; it must be below 1: 0.05 is 5 points")
    levels = baseline.levels.values()
    if any(level <= 0 for level in levels) or sum(levels) > FAMILY_WISE_ERROR * (1 + 1e-9):
        faults.append(f"levels {baseline.levels} must be above 0, and {FAMILY_WISE_ERROR} at most in all")
    if not baseline.cells:
        faults.append("it holds no cell")
    faults += [
        f"{cell_id(*key)} is there {times} times"
        for key, times in Counter(cell.key for cell in baseline.cells).items()
        if times > 1
    ]
    if not all(_is_json(table) for table in (baseline.measurement, *(cell.parameters for cell in baseline.cells))):
        faults.append("its settings hold NaN, infinity, or what JSON does not know")
    if baseline.required_rollouts < 1:
        faults.append(f"required_rollouts is {baseline.required_rollouts}; at least one is needed")
    return faults + [f"{cell.id}: {fault}" for cell in baseline.cells for fault in _cell_faults(cell, names)]


def _cell_faults(cell: BaselineCell, names: set[str]) -> list[str]:
    faults = [f"{name} is not a gated metric; those are {sorted(names)}" for name in set(cell.scores) - names]
    if cell.layer < 0:
        faults.append("its layer is below 0")
    if not cell.scores:
        faults.append("it holds no metric")
    for name, score in cell.scores.items():
        if score.n != len(score.items) or score.n == 0:
            faults.append(f"{name} says n = {score.n} and holds {len(score.items)} items")
        elif not math.isclose(score.value, _mean(score.items), rel_tol=1e-6, abs_tol=1e-9):
            faults.append(f"{name} says {score.value!r}, which is not the mean of its items")
        elif name == SUCCESS and set(score.items) - {0.0, 1.0}:
            faults.append(f"{name} holds items that are neither 0 nor 1")
    return faults


def _mean(items: tuple[float, ...]) -> float:
    try:
        return math.fsum(items) / len(items)
    except OverflowError:
        return math.inf
