"""What steering does to neutral text, beyond its mean: the tail of the documents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steering import stats
from steering.results import NEUTRAL_CHANGE, Row
from steering.tables import wording
from steering.tables.configurations import Runs, steered


def damage_summary(rows: Sequence[Row], runs: Runs | None = None) -> list[list[str]]:
    """One line for each steered cell, under a line of headings: how the neutral loss changes over the documents.

    "upper bound" is the one-sided 95 % bound of the mean, which claims are held against; the last two columns are the
    documents that suffer most: their 95th percentile, and the worst.

    Args:
        rows: Of one or several runs.
        runs: As in `steering.tables.cells.summary`.
    """
    cells = [row for metrics in steered(rows) if (row := metrics.get(NEUTRAL_CHANGE)) and row.items]
    runs = runs or Runs.of(cells)
    lines = [[*runs.heading, "method", "layer", "×", "Δ loss neutral", "upper bound", "95th percentile", "worst"]]
    for row in cells:
        items = np.array(row.items)
        values = (items.mean(), stats.mean_upper_bound(items), np.percentile(items, 95), items.max())
        shown = [wording.signed(float(value)) for value in values]
        lines.append([*runs.cell(row), row.method, str(row.layer), wording.multiplier(row), *shown])
    return lines
