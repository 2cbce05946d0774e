"""From rows to what figures draw: the cells that can be compared, and among them those that one line goes through."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from steering.grouping import grouped
from steering.results import NEUTRAL_BUDGET, SAE, UNSTEERED, Configuration, Row
from steering.tables.configurations import Runs, configurations, labels, shared
from steering.tables.wording import visible

_FIRST = ("mean_difference", "feature_delta", "hand_crafted")
_LONGEST_STEM = 60
_MOST_ALONE = 3


@dataclass(frozen=True, eq=False)
class Series:
    """The cells of one method at one dose, by layer.

    Attributes:
        method: Its name.
        dose: What tells it apart from the method's other series; empty where there is no other.
        budget: Of neutral loss, by which its doses were chosen, nats per token; None where they were given.
        is_control: Whether it is there for comparison only.
        cells: By layer, each layer once.
    """

    method: str
    dose: str
    budget: float | None
    is_control: bool
    cells: tuple[Configuration, ...]

    @property
    def multiplier(self) -> float:
        """Of the first cell, as it was asked for; a budget gives each cell its own."""
        return self.cells[0].row.asked_multiplier

    @property
    def label(self) -> str:
        """For legends."""
        return f"{self.method} {self.dose}".strip()

    def measured(self, metric: str) -> list[Row]:
        """The rows of a metric that have a value."""
        return [row for cell in self.cells if (row := cell.measured(metric)) is not None]

    def layers(self, metrics: Collection[str]) -> set[int | None]:
        """Where some metric has a value."""
        return {row.layer for metric in metrics for row in self.measured(metric)}

    def rows(self, metric: str) -> list[Row]:
        """The rows of a metric, those included that failed."""
        return [row for cell in self.cells if (row := cell.get(metric)) is not None]


@dataclass(frozen=True, eq=False)
class SeriesGroup:
    """What was measured under the same circumstances.

    Attributes:
        circumstances: In which circumstances it differs from other groups; empty where there is one only.
        stem: The same for file names.
        unsteered: The unsteered run; None where it was not measured.
        series: Steered cells; those that are no controls first.
    """

    circumstances: str
    stem: str
    unsteered: Configuration | None
    series: tuple[Series, ...]

    @property
    def row(self) -> Row:
        """One row, for what all share."""
        return self.series[0].cells[0].row

    def without_vector(self, metric: str) -> Row | None:
        """The row of a metric for the unsteered run, if there is one."""
        return None if self.unsteered is None else self.unsteered.get(metric)

    def name(self, *parts: str) -> str:
        """The name of a figure, from what it shows."""
        return "-".join(filter(None, (*map(stem_of, parts), self.stem)))

    @property
    def heading(self) -> str:
        """Model, concept and side, and the circumstances that are told, for titles."""
        row = self.row
        circumstances = f"; {self.circumstances}" if self.circumstances else ""
        return visible(f"{row.model}, {row.concept}, towards {row.toward}{circumstances}")

    @property
    def budgets(self) -> list[float | None]:
        """The budgets by which doses were chosen, None first where some were given."""
        found = {series.budget for series in self.series}
        return sorted(found, key=lambda budget: -1.0 if budget is None else budget)

    def at(self, budget: float | None) -> list[Series]:
        """The series whose doses were chosen by one budget, or for None were given."""
        return [series for series in self.series if series.budget == budget]


def over_layers(series: Sequence[Series], metrics: Collection[str]) -> list[Series]:
    """The series that a figure by layer shows: a single point is no line.

    Left out are those that were not measured, a method's doses at one layer where it has others at several, and methods
    at one layer where more than three of them would stand beside lines.

    Args:
        series: Controls among them.
        metrics: That the figure shows.
    """
    drawn = [entry for entry in series if entry.layers(metrics)]
    lines = [entry for entry in drawn if len(entry.layers(metrics)) > 1]
    with_line = {entry.method for entry in lines}
    alone = {entry.method for entry in drawn} - with_line
    if len(alone) > _MOST_ALONE and not all(entry.is_control for entry in lines):
        return lines
    return [entry for entry in drawn if entry in lines or entry.method in alone]


def groups_of(rows: Sequence[Row]) -> list[SeriesGroup]:
    """Sort the rows of steered cells by their circumstances; SAEs and what was never steered are passed over."""
    rows = [row for row in rows if row.method != SAE]
    runs = Runs.of(rows)
    groups = []
    for cells in grouped(configurations(rows), lambda cell: shared(cell.row)).values():
        series = _series_of([cell for cell in cells if cell.row.layer is not None])
        unsteered = [cell for cell in cells if cell.row.method == UNSTEERED]
        circumstances = " ".join(runs.cell(cells[0].row))
        if series:
            own_unsteered = unsteered[-1] if unsteered else None
            groups.append(SeriesGroup(circumstances, stem_of(circumstances), own_unsteered, series))
    return groups


def stem_of(text: str) -> str:
    """A part of a file name from any text."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text.replace("×", "x").replace("−", "-")).strip("_.-")[:_LONGEST_STEM]


def _series_of(cells: Sequence[Configuration]) -> tuple[Series, ...]:
    """Sort the steered cells of one group by what they are called; what a budget has dosed stands for itself."""
    rows = [cell.row for cell in cells]
    found: dict[tuple[bool, str, str, float | None], list[Configuration]] = {}
    for cell, row, label in zip(cells, rows, labels(rows), strict=True):
        dose = label.removeprefix(row.method).strip().replace("×-", "×−")
        found.setdefault((row.is_control, row.method, dose, row.parameters.get(NEUTRAL_BUDGET)), []).append(cell)
    series = [
        Series(method, dose, budget, is_control, tuple(members))
        for (is_control, method, dose, budget), members in found.items()
    ]
    return tuple(sorted(series, key=_order))


def _order(series: Series) -> tuple[Any, ...]:
    known = _FIRST.index(series.method) if series.method in _FIRST else len(_FIRST)
    return series.is_control, known, series.method, series.budget or 0.0, series.multiplier
