"""How steering pulls the two sides of the test pairs apart, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from steering import stats
from steering.results import NEGATIVE_CHANGE, POSITIVE_CHANGE, Configuration, Row
from steering.tables import wording
from steering.tables.configurations import Runs, shared, steered
from steering.tables.wording import ABSENT

_SIDES = (NEGATIVE_CHANGE, POSITIVE_CHANGE)


def separation_summary(
    rows: Sequence[Row], among: Sequence[Row] | None = None, runs: Runs | None = None
) -> list[list[str]]:
    """One line for each cell with the losses of the test pairs, under a line of headings.

    The separation of a pair is loss(negative) - loss(positive), nats per token: how much more the model expects the
    continuation that is steered towards. What steering adds to it is the pair's change of loss on the negative side
    minus that on the positive side.

    "wrong way" is the share of pairs for which that is below 0, so that steering had the opposite effect ("anti-
    steerable": Tan et al. 2024, arXiv:2407.12404), with its Wilson interval. "slope per ×" is the mean over pairs of
    each pair's slope of the separation over the multiplier, with its bootstrap interval over pairs: a line through the
    origin, because a multiplier of 0 changes nothing, by least squares over all multipliers of the same vector; with a
    single multiplier it is the change divided by that. Intervals are at 95 %.

    Args:
        rows: Of one or several runs.
        among: All rows that were measured, where `rows` are a selection of them: slopes are over all doses of these.
        runs: As in `steering.tables.cells.summary`.
    """
    cells = _changed(rows)
    runs = runs or Runs.of([row for row, _ in cells])
    lines = [[*runs.heading, "method", "layer", "×", "pairs", "wrong way [95 % CI]", "slope per × [95 % CI]"]]
    doses: dict[tuple[object, ...], dict[float, np.ndarray]] = {}
    # A budget may have found a multiplier that was given, too.
    for row, changes in _changed(rows if among is None else among):
        doses.setdefault((_vector(row), len(changes)), {})[row.multiplier] = changes
    for row, changes in cells:
        wrong = (changes < 0).astype(float)
        lines.append(
            [
                *(*runs.cell(row), row.method, str(row.layer), wording.multiplier(row), str(len(changes))),
                wording.interval(float(wrong.mean()), *stats.proportion_interval(wrong)),
                _slope(doses[_vector(row), len(changes)]),
            ]
        )
    return lines


def slopes(multipliers: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Slope of each pair's change over the multiplier `[pair]`, of least squares through the origin.

    Args:
        multipliers: `[dose]`, not all 0.
        changes: `[dose, pair]`.
    """
    return np.asarray(multipliers @ changes / (multipliers @ multipliers))


def _changed(rows: Sequence[Row]) -> list[tuple[Row, np.ndarray]]:
    """Cells with what steering adds to the separation of each test pair."""
    return [(found.row, changes) for found in steered(rows) if (changes := _changes(found)) is not None]


def _changes(configuration: Configuration) -> np.ndarray | None:
    """What steering adds to the separation of each test pair `[pair]`, where both sides were measured."""
    sides = map(configuration.get, _SIDES)
    negative, positive = (np.array(row.items if row is not None else ()) for row in sides)
    return negative - positive if len(negative) == len(positive) > 0 else None


def _vector(row: Row) -> tuple[object, ...]:
    return shared(row), row.method, row.layer, row.vector_hash


def _slope(doses: Mapping[float, np.ndarray]) -> str:
    multipliers = np.array(list(doses))
    if not multipliers.any():
        return ABSENT
    found = slopes(multipliers, np.stack(list(doses.values())))
    return wording.interval(float(found.mean()), *stats.mean_interval(found), "+.4f")
