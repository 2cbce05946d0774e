"""Layers by methods as a table whose cells are coloured by their value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steering.report.studies import Study, StudyCell
from steering.results import Row
from steering.tables import wording

#: Colours that the style sheet has for each kind of map, from the lowest value to the highest.
STEPS = 10


@dataclass(frozen=True)
class HeatCell:
    """One cell of a map.

    Attributes:
        value: As text.
        interval: Of 95 %, as text.
        tooltip: Everything about the cell in one line.
        step: Of its colour, from 0 to STEPS - 1.
        marked: Whether it stands out by more than its value.
    """

    value: str
    interval: str
    tooltip: str
    step: int
    marked: bool


@dataclass(frozen=True)
class HeatMap:
    """A table of layers by methods.

    Attributes:
        kind: Which of the style sheet's colours it has.
        columns: Label of each method, and whether it is a control.
        lines: Layer, and one cell or None for each column.
        high: Value of the last colour; the first stands for 0, and for all below it.
    """

    kind: str
    columns: tuple[tuple[str, bool], ...]
    lines: tuple[tuple[int, tuple[HeatCell | None, ...]], ...]
    high: str


def success_map(study: Study) -> HeatMap | None:
    """P(success) of every cell, marked where it is above the unsteered run by the adjusted test; None without any."""
    return _heat_map(study, "success", lambda cell: cell.success, wording.proportion, _told_success)


def damage_map(study: Study) -> HeatMap | None:
    """The change of the neutral loss of every cell, without marks; None without any."""
    return _heat_map(study, "damage", lambda cell: cell.neutral, wording.change_with_interval, _told_damage)


def step_of(value: float, high: float) -> int:
    """The colour of a value: equal parts from 0 to `high`; what is below 0 has the first colour."""
    return 0 if high <= 0 else min(STEPS - 1, int(STEPS * min(1.0, max(0.0, value / high))))


def _told_success(study: Study, cell: StudyCell) -> str:
    if study.steers(cell):
        return f"above the unsteered run (adjusted p {wording.p_value(cell.p_value)})"
    if cell.p_value is not None:
        return f"not above the unsteered run (adjusted p {wording.p_value(cell.p_value)})"
    return "control" if cell.row.is_control else "not tested"


def _told_damage(_: Study, cell: StudyCell) -> str:
    return "control" if cell.row.is_control else ""


def _heat_map(
    study: Study,
    kind: str,
    row_of: Callable[[StudyCell], Row | None],
    shown: Callable[[Row | None], str],
    remark: Callable[[Study, StudyCell], str],
) -> HeatMap | None:
    cells = [(cell, row) for cell in study.cells if (row := row_of(cell)) is not None]
    if not cells:
        return None
    high = max(0.0, *(row.value or 0.0 for _, row in cells))
    columns = _columns([cell for cell, _ in cells])
    found: dict[tuple[int, str], HeatCell] = {}
    for cell, row in cells:
        value, _, interval = shown(row).partition(" ")
        parts = (f"{cell.label}, layer {cell.layer}: {value} {interval}", f"n = {row.n}", remark(study, cell))
        tooltip = ", ".join(part for part in parts if part)
        marked = kind == "success" and study.steers(cell)
        found[cell.layer, cell.label] = HeatCell(value, interval, tooltip, step_of(row.value or 0.0, high), marked)
    layers = sorted({cell.layer for cell, _ in cells})
    lines = tuple((layer, tuple(found.get((layer, label)) for label, _ in columns)) for layer in layers)
    return HeatMap(kind, columns, lines, f"{high:.3f}")


def _columns(cells: Sequence[StudyCell]) -> tuple[tuple[str, bool], ...]:
    """Methods before controls, each in the order of the study."""
    labels = dict.fromkeys((cell.label, cell.row.is_control) for cell in cells)
    return tuple(sorted(labels, key=lambda column: column[1]))
