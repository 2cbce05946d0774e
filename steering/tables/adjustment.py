"""P values: adjusted for the number of cells that were looked at, and held against the items that they are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from steering import stats
from steering.grouping import grouped
from steering.results import SUCCESS, UNSTEERED, Row
from steering.tables.configurations import shared, steered


def adjusted_p_values(rows: Sequence[Row], field: Literal["p_value", "p_control"]) -> dict[tuple[Any, ...], float]:
    """Key of a row of P(success) -> its p value, adjusted by Holm over all cells of one study that have one.

    Controls are no claims to be adjusted for, and would only widen the family: they are left out. So are the p values
    of another unsteered run than the one among the rows.

    Args:
        rows: Of one or several runs; each set of circumstances is a study of its own.
        field: Which p value of a row.
    """
    counting = p_values(rows, field)
    tested = [row for row in _successes(rows) if row.key in counting and not row.is_control]
    adjusted: dict[tuple[Any, ...], float] = {}
    for family in grouped(tested, shared).values():
        values = stats.holm([counting[row.key] for row in family])
        adjusted |= {row.key: float(value) for row, value in zip(family, values, strict=True)}
    return adjusted


def p_values(rows: Sequence[Row], field: Literal["p_value", "p_control"]) -> dict[tuple[Any, ...], float]:
    """Key of a row of P(success) -> its p value, but those of another unsteered run than the one among the rows."""
    passed_over = of_another_unsteered_run(rows) if field == "p_value" else frozenset()
    found = {row.key: getattr(row, field) for row in _successes(rows) if row.key not in passed_over}
    return {key: value for key, value in found.items() if value is not None}


def of_another_unsteered_run(rows: Sequence[Row]) -> frozenset[tuple[Any, ...]]:
    """Keys of rows of P(success) whose p value is against an unsteered run that was measured again since.

    Args:
        rows: The unsteered run that counts is among them; a study without one has no such rows.
    """
    unsteered = {shared(row): row for row in rows if row.method == UNSTEERED and row.metric == SUCCESS and row.items}
    pairs = [(row, unsteered.get(shared(row))) for row in _successes(rows)]
    return frozenset(
        row.key
        for row, other in pairs
        if other and row.p_value is not None and len(row.items) == len(other.items)
        if not comes_from(row.p_value, row, other)
    )


def _successes(rows: Sequence[Row]) -> list[Row]:
    return [row for cell in steered(rows) if (row := cell.measured(SUCCESS)) is not None]


def comes_from(p_value: float, row: Row, other: Row) -> bool:
    """Whether a p value can be that of a row's items against another's, which may have been measured again since.

    Args:
        p_value: Of the paired test.
        row: With its items.
        other: With as many.
    """
    return math.isclose(stats.p_more_successes(np.array(row.items), np.array(other.items)), p_value, rel_tol=1e-6)
