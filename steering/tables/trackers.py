"""Results for services that follow numbers from commit to commit: Bencher and github-action-benchmark."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steering.concepts import TEST
from steering.results import NEUTRAL_CHANGE, SUCCESS, UNSTEERED, Row, cell_id
from steering.tables.configurations import Runs, labels, on_split

# Bencher takes no longer name for a benchmark.
_LONGEST = 1024


def to_bencher(rows: Sequence[Row]) -> str:
    """Bencher Metric Format: {benchmark: {measure: {value, lower_value, upper_value}}}.

    A benchmark is a cell, called by method and layer; a measure is a metric, with its 95 % interval. What was
    measured on the test split is written. See https://bencher.dev/docs/reference/bencher-metric-format.
    """
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for name, row in _named(rows):
        metric = {"value": row.value, "lower_value": row.low, "upper_value": row.high}
        benchmarks.setdefault(name, {})[row.metric] = {key: end for key, end in metric.items() if end is not None}
    return _json(benchmarks)


@dataclass(frozen=True)
class _Quantity:
    """What github-action-benchmark is told of a metric.

    Attributes:
        better: The direction in which it is better.
        unit: Of the value.
        name: What it is called.
    """

    better: Literal["bigger", "smaller"]
    unit: str
    name: str


# The action compares by ratios, so only what is above 0 can be followed. A change of loss is around 0: what is followed
# instead is its exponential, the factor by which perplexity changes.
_QUANTITIES = {
    SUCCESS: _Quantity("bigger", "share of completions", SUCCESS),
    "one_word_success": _Quantity("bigger", "share of prompts", "one_word_success"),
    "sae_variance_explained": _Quantity("bigger", "share", "sae_variance_explained"),
    "sae_loss_recovered": _Quantity("bigger", "share", "sae_loss_recovered"),
    NEUTRAL_CHANGE: _Quantity("smaller", "steered / unsteered", "neutral_perplexity_ratio"),
    "loss_neutral": _Quantity("smaller", "nats per token", "loss_neutral"),
    "loss_positive": _Quantity("smaller", "nats per token", "loss_positive"),
    "sae_l0": _Quantity("smaller", "features per token", "sae_l0"),
    "sae_spliced_loss": _Quantity("smaller", "nats per token", "sae_spliced_loss"),
    "sae_silent_features": _Quantity("smaller", "share of features", "sae_silent_features"),
}


def to_benchmark_action(rows: Sequence[Row], better: Literal["bigger", "smaller"]) -> str:
    """The file that github-action-benchmark reads with the tool customBiggerIsBetter or customSmallerIsBetter.

    A list of {name, unit, value, range, extra}. Of a control or of the unsteered model it is neither better nor worse
    to succeed, so that they are left out. In place of the change of the neutral loss stands its exponential, the ratio
    of perplexities: the action compares with the commit before by ratio, which says nothing of numbers around 0.
    See https://github.com/benchmark-action/github-action-benchmark.

    Args:
        rows: Of one or several runs; what was measured on the test split is written.
        better: Which of the metrics to write: those of which more is better, or less.
    """
    entries = []
    for name, row in _named(rows):
        quantity = _QUANTITIES.get(row.metric)
        if quantity is None or quantity.better != better or row.is_control or row.method == UNSTEERED:
            continue
        value, low, high = (_followed(row, end) for end in (row.value, row.low, row.high))
        if value is None:
            continue
        entry: dict[str, Any] = {"name": f"{name} {quantity.name}", "unit": quantity.unit, "value": value}
        if low is not None and high is not None:
            entry["range"] = f"{low:.4g} to {high:.4g}"
        entries.append(entry | {"extra": f"95 % interval, n = {row.n}\nmultiplier {row.multiplier:g}\n{row.model}"})
    return _json(entries)


def _followed(row: Row, value: float | None) -> float | None:
    """What is written for a value of a row; None for a ratio that is beyond every number."""
    if value is None or row.metric != NEUTRAL_CHANGE:
        return value
    try:
        return math.exp(value)
    except OverflowError:
        return None


def _named(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Each measured value of the test split, under a name of its cell."""
    measured = [row for row in on_split(rows, TEST) if row.status == "ok" and row.value is not None]
    cells = {row.configuration: row for row in measured}
    runs = Runs.of(measured)
    found = zip(cells, cells.values(), labels(list(cells.values())), strict=True)
    names = {key: _shortened(_name(runs, row, label)) for key, row, label in found}
    return [(names[row.configuration], row) for row in measured]


def _name(runs: Runs, row: Row, label: str) -> str:
    return ", ".join([cell_id(label, row.layer), *runs.cell(row)])


def _shortened(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]} {digest}"


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
