"""What the figures over layers have in common: lines through measured points, with intervals, and their data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes

from steering.grouping import grouped
from steering.report.figures import style
from steering.report.figures.series import Series
from steering.report.figures.style import Look
from steering.results import Row
from steering.tables import wording

Entry = TypeVar("Entry")

_METHODS = 6
#: Of the data of figures that show values with intervals.
HEADINGS = [
    *("method", "dose", "is_control", "layer", "multiplier", "vector_norm", "vector_hash"),
    *("metric", "value", "low", "high", "n", "status", "reason"),
]


def data_line(row: Row, dose: str = "") -> list[Any]:
    """One row of results as a line under `HEADINGS`."""
    return [
        *(row.method, dose, row.is_control, row.layer, row.multiplier, row.vector_norm, row.vector_hash),
        *(row.metric, row.value, row.low, row.high, row.n, row.status, row.reason),
    ]


def numbers(values: Sequence[float | None]) -> np.ndarray:
    """Floats, NaN for what was not measured: lines have a gap there."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def error_bars(axes: Axes, rows: Sequence[Row], look: Look, label: str, shift: float = 0.0) -> None:
    """Values over layers with intervals as bars, a little beside their layer where several series share it."""
    value, low, high = _ends(rows)
    layers, ends = numbers([row.layer for row in rows]) + shift, np.vstack([value - low, high - value]).clip(min=0)
    [line, *_] = axes.errorbar(layers, value, yerr=ends, elinewidth=0.9, **look.line_style)
    line.set_label(label)  # and not the container's: legends list those after all lines


def band(axes: Axes, rows: Sequence[Row], look: Look, label: str, shift: float = 0.0) -> None:
    """Values over layers with intervals as a band, or as bars where neighbours are missing."""
    layers, (value, low, high) = numbers([row.layer for row in rows]) + shift, _ends(rows)
    axes.plot(layers, value, label=label, **look.line_style)
    axes.fill_between(layers, low, high, color=look.colour, alpha=look.opacity, linewidth=0)
    known = np.pad(np.isfinite(value), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    if alone.any():
        axes.vlines(layers[alone], low[alone], high[alone], color=look.colour, linewidth=0.9)


def _ends(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return numbers([row.value for row in rows]), numbers([row.low for row in rows]), numbers([row.high for row in rows])


def unsteered_band(axes: Axes, row: Row | None) -> None:
    """The unsteered value as a line, and its interval as a band."""
    if row is None or row.value is None:
        return
    if row.low is not None and row.high is not None:
        axes.axhspan(row.low, row.high, color="0.88", zorder=0.5, linewidth=0)
    axes.axhline(row.value, color="black", linewidth=1, zorder=1, label=unsteered_labels(row)[0])


def unsteered_labels(row: Row | None) -> list[str]:
    """Of the unsteered value, in legends; none where it was not measured."""
    return [] if row is None or row.value is None else [f"unsteered {wording.proportion(row)}"]


def shifts(count: int) -> list[float]:
    """Where series stand beside their layer, centred on it."""
    step = min(0.09, 0.7 / max(count, 1))
    return [step * (index - (count - 1) / 2) for index in range(count)]


def layers_of(series: Sequence[Series]) -> list[int]:
    """All layers of some series, rising."""
    found = {row.layer for entry in series for cell in entry.cells for row in cell.rows.values()}
    return sorted(layer for layer in found if layer is not None)


@dataclass(frozen=True)
class Panel:
    """What is drawn into the same axes.

    Attributes:
        series: Controls last.
        looks: Of each.
        method: Whose doses they are; empty where they are several methods, with one dose each.
    """

    series: tuple[Series, ...]
    looks: tuple[Look, ...]
    method: str = ""

    def label(self, series: Series) -> str:
        """Of a series, for the legend: the dose alone where the title names the method."""
        return style.inert(series.dose, 24) if self.method else style.label(series)


def panels_of(series: Sequence[Series], by_method: Mapping[str, Look], most_doses: int) -> list[Panel]:
    """Methods of one dose side by side, with the controls; a method of several doses on its own.

    Args:
        series: All that is to be shown of the same rows.
        by_method: Look of each method; the same in all figures of the rows.
        most_doses: How many lines of one method a panel has room for.
    """
    doses = grouped(series, lambda entry: entry.method)
    single = [entries[0] for entries in doses.values() if len(entries) == 1]
    controls = [entry for entry in single if entry.is_control]
    groups = [[*group, *controls] for group in chunks([entry for entry in single if not entry.is_control], _METHODS)]
    if controls and not groups:
        groups = [controls]
    found = [Panel(tuple(group), tuple(by_method[entry.method] for entry in group)) for group in groups]
    for method, entries in doses.items():
        if len(entries) > 1:
            looks = dict(zip(entries, Look.of_doses(entries), strict=True))
            found += [
                Panel(tuple(chunk), tuple(looks[entry] for entry in chunk), method)
                for chunk in chunks(entries, most_doses)
            ]
    return found


def chunks(entries: Sequence[Entry], most: int) -> list[list[Entry]]:
    """Parts of about the same size, of at most so many entries."""
    count = -(-len(entries) // most)
    size = -(-len(entries) // max(count, 1))
    return [list(entries[start : start + size]) for start in range(0, len(entries), max(size, 1))]


def item_count(rows: Sequence[Row], noun: str) -> str:
    """How many items the values are means of, for captions."""
    counts = sorted({row.n for row in rows if row.value is not None})
    if not counts:
        return f"no {noun}"
    return f"n = {counts[0]} {noun}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} {noun}"


def missing(rows: Sequence[Row]) -> str:
    """What could not be measured, for the end of a sentence; or nothing."""
    cells = dict.fromkeys(f"{row.method} at layer {row.layer}" for row in rows if row.value is None)
    lost = [style.inert(cell, 60) for cell in cells]
    if not lost:
        return ""
    shown = ", ".join(lost[:4]) + (" …" if len(lost) > 4 else "")
    return f"; not measured, and left out: {shown}"
