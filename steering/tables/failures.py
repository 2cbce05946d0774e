"""Table of what could not be measured, and why."""

from __future__ import annotations

from collections.abc import Sequence

from steering.grouping import grouped
from steering.results import Row
from steering.tables.configurations import Runs, labels


def failure_summary(rows: Sequence[Row]) -> list[list[str]]:
    """One line for each cell and reason for which something could not be measured, under a line of headings."""
    failed = grouped([row for row in rows if row.status == "failed"], lambda row: (row.configuration, row.reason))
    first = [found[0] for found in failed.values()]
    runs = Runs.of(first)
    lines = [[*runs.heading, "method", "layer", "not measured", "reason"]]
    for name, found in zip(labels(first), failed.values(), strict=True):
        layer = "" if found[0].layer is None else str(found[0].layer)
        lines.append([*runs.cell(found[0]), name, layer, ", ".join(row.metric for row in found), found[0].reason])
    return lines
