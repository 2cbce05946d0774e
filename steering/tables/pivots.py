"""One metric as a table of layers by methods."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from steering.errors import UnknownNameError
from steering.results import UNSTEERED, Row
from steering.tables import wording
from steering.tables.configurations import Runs, labels, shared
from steering.tables.wording import ABSENT


def pivot_frame(rows: Sequence[Row], metric: str) -> pd.DataFrame:
    """Values of a metric at full precision: a line for each layer, a column for each method.

    The unsteered run, which has no layer, is a column that says the same at every layer of its run. Where runs
    differ in their circumstances, `run` comes before `layer` in the index and says in what.

    Raises:
        UnknownNameError: No row has the metric.
    """
    return _pivot(rows, metric).map(lambda row: None if pd.isna(row) else row.value).astype("float64")


def pivot_table(rows: Sequence[Row], metric: str) -> list[list[str]]:
    """The same for people: values with their 95 % intervals, under a line of headings.

    Raises:
        UnknownNameError: No row has the metric.
    """
    frame = _pivot(rows, metric)
    shown = wording.change_with_interval if metric.startswith("loss_change") else wording.proportion
    cells = frame.map(lambda row: ABSENT if pd.isna(row) else shown(row))
    lines = [[*map(str, frame.index.names), *map(str, frame.columns)]]
    for index, line in zip(frame.index, cells.to_numpy().tolist(), strict=True):
        place = index if isinstance(index, tuple) else (index,)
        lines.append([*("" if part is pd.NA else str(part) for part in place), *line])
    return lines


def _pivot(rows: Sequence[Row], metric: str) -> pd.DataFrame:
    """Rows by layer and method."""
    found = [row for row in rows if row.metric == metric]
    if not found:
        raise UnknownNameError("metric", metric, {row.metric for row in rows})
    runs = Runs.of(found)
    # Of an attempt that failed beside what was measured, the latter is shown.
    found.sort(key=lambda row: row.value is None)
    cells = [(label, row) for row, label in zip(found, labels(found), strict=True)]
    records = [
        {**_run(runs, row), "layer": layer, "column": label, "row": row}
        for label, row in cells
        for layer in _layers(row, found)
    ]
    columns = sorted({label for label, _ in cells}, key=lambda label: (label != UNSTEERED, label))
    frame = pd.DataFrame(records).astype({"layer": "Int64"})
    index = [*runs.heading, "layer"]
    table = frame.pivot_table(index=index, columns="column", values="row", aggfunc="first", dropna=False)[columns]
    return table.dropna(how="all")  # pandas makes a line for each layer of every run


def _run(runs: Runs, row: Row) -> dict[str, str]:
    return dict(zip(runs.heading, runs.cell(row), strict=True))


def _layers(row: Row, rows: Sequence[Row]) -> list[int | None]:
    """The lines that a row stands in: its layer, or for the unsteered run all layers of its run."""
    if row.layer is not None:
        return [row.layer]
    layers = {other.layer for other in rows if other.layer is not None and shared(other) == shared(row)}
    return [*sorted(layers)] or [None]
