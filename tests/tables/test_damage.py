"""The tail of the neutral documents."""

from __future__ import annotations

import numpy as np

from steering.tables.damage import damage_summary
from tests.small_rows import small_row, unsteered_row


def test_the_documents_that_suffer_most_are_shown():
    items = np.random.default_rng(4).normal(0.05, 0.1, 200)
    ranked = np.sort(items)
    row = small_row(metric="loss_change_neutral", value=float(items.mean()), n=200, items=tuple(items.tolist()))
    header, line = damage_summary([row, unsteered_row(metric="loss_change_neutral", items=(0.0,), value=0.0)])
    shown = dict(zip(header, line, strict=True))
    assert shown["method"] == "mean_difference"
    assert shown["Δ loss neutral"] == f"{items.mean():+.3f}"
    assert shown["worst"] == f"{ranked[-1]:+.3f}"
    assert ranked[188] <= float(shown["95th percentile"]) + 0.0005 <= ranked[191] + 0.001
    # A normal interval of a mean of 200 items is close to the bootstrap's.
    bound = items.mean() + 1.645 * items.std(ddof=1) / np.sqrt(200)
    assert abs(float(shown["upper bound"]) - bound) < 0.003


def test_cells_that_failed_have_no_line():
    failed = small_row(metric="loss_change_neutral", status="failed", value=None, n=0, items=())
    assert len(damage_summary([failed])) == 1
