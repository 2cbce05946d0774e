"""What an earlier run has measured already, found again in its journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steering.metrics import Score
from steering.results import Row
from steering.sweeps.cells import Cell, Outcome


class Earlier:
    """Rows of earlier runs, by what decides their values: model, data, vector, dose, seeds, numbers and settings.

    Args:
        rows: As `load_rows` gives them.
    """

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self._rows = {row.key: row for row in rows if row.status == "skipped" or row.items}

    def outcome(self, cell: Cell | None, blank: Row, names: Sequence[str]) -> Outcome | None:
        """The outcome of a cell, None standing for the unsteered run; further arguments as in `find`."""
        found = self.find(blank, names)
        return None if found is None else Outcome(cell, *found, was_measured_earlier=True)

    def find(self, blank: Row, names: Sequence[str]) -> tuple[dict[str, Score], tuple[Row, ...]] | None:
        """Scores and rows of one measurement, or None where not every row of it is there.

        A run that was killed may have left some rows of a cell; they do not count.

        Args:
            blank: What its rows share.
            names: Of the scores that belong to it.
        """
        rows = [self._rows.get(replace(blank, metric=name).key) for name in names]
        found = [row for row in rows if row is not None]
        if not names or len(found) < len(names):
            return None
        return {row.metric: _score(row) for row in found if row.status == "ok"}, tuple(found)


def _score(row: Row) -> Score:
    if row.low is None or row.high is None:
        raise AssertionError(f"a measured row has an interval: {row.metric}")
    return Score(row.metric, np.array(row.items), row.low, row.high, row.p_value, row.texts, row.p_control)
