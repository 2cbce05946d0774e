"""Table of what could not be measured, and why."""

from __future__ import annotations

from collections.abc import Sequence

from steering.grouping import grouped
from steering.results import Row
from steering.tables.configurations import Runs, labels


def failed_cells(rows: Sequence[Row]) -> list[Row]:
    """One row of each cell of which something could not be measured."""
    return list({row.configuration: row for row in rows if row.status == "failed"}.values())


def failure_summary(rows: Sequence[Row], runs: Runs | None = None) -> list[list[str]]:
    """One line for each cell and reason for which something could not be measured, under a line of headings.

    Args:
        rows: Of one or several runs.
        runs: As in `steering.tables.cells.summary`.
    """
    cells = failed_cells(rows)
    names = dict(zip((row.configuration for row in cells), labels(cells), strict=True))
    failed = grouped([row for row in rows if row.status == "failed"], lambda row: (row.configuration, row.reason))
    runs = runs or Runs.of(cells)
    lines = [[*runs.heading, "method", "layer", "not measured", "reason"]]
    for found in failed.values():
        row, metrics = found[0], ", ".join(each.metric for each in found)
        layer = "" if row.layer is None else str(row.layer)
        lines.append([*runs.cell(row), names[row.configuration], layer, metrics, row.reason])
    return lines
