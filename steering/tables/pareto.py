"""Whether anything is a Pareto improvement over the mean difference: more success for less damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering import stats
from steering.concepts import TEST
from steering.grouping import grouped
from steering.results import CONSTRUCTION, NEUTRAL_CHANGE, SUCCESS, Row
from steering.tables import wording
from steering.tables.configurations import Runs, on_split, shared, steered

#: What the paper could not improve on.
REFERENCE = "mean_difference"
#: Of all comparisons of a study together: of those that find an improvement, and of those that find the reverse.
LEVEL = 0.05


@dataclass(frozen=True)
class _Point:
    """A cell by what it reaches and what it costs."""

    success: Row
    cost: Row


@dataclass(frozen=True)
class ParetoComparison:
    """A cell against one dose of the mean difference at its layer, rollout by rollout and document by document.

    Attributes:
        cell: What it reaches and what it costs.
        against: The same of the mean difference.
        p_better: Adjusted p value that it succeeds more often and costs less.
        p_worse: Adjusted p value that it succeeds less often and costs more.
        raw_better: The first of these before the adjustment, after which many are 1 and cannot be told apart.
        raw_worse: The second of these before the adjustment.
    """

    cell: _Point
    against: _Point
    p_better: float
    p_worse: float
    raw_better: float
    raw_worse: float

    @property
    def row(self) -> Row:
        """P(success) of the cell."""
        return self.cell.success

    @property
    def reference(self) -> Row:
        """P(success) of the mean difference."""
        return self.against.success

    @property
    def success(self) -> tuple[float, float, float]:
        """How much higher P(success) is: difference, and ends of its 95 % interval."""
        successes, of_reference = (np.array(point.success.items) for point in (self.cell, self.against))
        return (
            float(successes.mean() - of_reference.mean()),
            *stats.paired_difference_interval(successes, of_reference),
        )

    @property
    def cost(self) -> tuple[float, float, float]:
        """How much more neutral loss it costs, in the same way, nats per token."""
        changes = np.array(self.cell.cost.items) - np.array(self.against.cost.items)
        return (float(changes.mean()), *stats.mean_interval(changes))

    @property
    def verdict(self) -> str:
        """Whether it is shown to be better in both, worse in both, or neither."""
        better, worse = self.p_better < LEVEL, self.p_worse < LEVEL
        return "improves" if better else "dominated" if worse else "open"


def comparisons(rows: Sequence[Row]) -> list[ParetoComparison]:
    """Every cell of another method against every dose of the mean difference at its layer.

    A Pareto improvement has to be better in both respects, each shown by a paired test (McNemar's exact test, and a t
    test over documents), so that its p value is the larger of the two (an intersection-union test: Berger, 1982). They
    are adjusted by Holm's method over all comparisons of one study, those in either direction by themselves.

    Args:
        rows: Of one or several runs; controls and what was measured on the development split are passed over.
    """
    cells = steered([row for row in on_split(rows, TEST) if not row.is_control])
    points = [
        _Point(success, cost)
        for success, cost in ((cell.get(SUCCESS), cell.get(NEUTRAL_CHANGE)) for cell in cells)
        if success and cost and success.items and cost.items
    ]
    studies = grouped(points, lambda point: shared(point.success))
    return [found for of_study in studies.values() for found in _within(of_study)]


def _within(points: Sequence[_Point]) -> list[ParetoComparison]:
    pairs = [(point, reference) for point in points for reference in points if _is_reference(reference, point)]
    better = [_p_better(point, reference) for point, reference in pairs]
    worse = [_p_better(reference, point) for point, reference in pairs]
    adjusted = zip(pairs, stats.holm(better).tolist(), stats.holm(worse).tolist(), better, worse, strict=True)
    return [
        ParetoComparison(
            cell=point,
            against=reference,
            p_better=p_better,
            p_worse=p_worse,
            raw_better=raw_better,
            raw_worse=raw_worse,
        )
        for (point, reference), p_better, p_worse, raw_better, raw_worse in adjusted
    ]


def _is_reference(reference: _Point, point: _Point) -> bool:
    """Whether one is a mean difference at the other's layer, and the other is none; both of one study.

    Of rows from elsewhere, those are passed over whose items are no pairs.
    """
    success, of_reference = point.success, reference.success
    methods = [row.parameters.get(CONSTRUCTION, row.method) for row in (of_reference, success)]
    paired = len(success.items) == len(of_reference.items) and len(point.cost.items) == len(reference.cost.items)
    return paired and success.layer == of_reference.layer and methods[0] == REFERENCE != methods[1]


def _p_better(point: _Point, other: _Point) -> float:
    """Of the test that one succeeds more often than another and costs less."""
    p_success = stats.p_more_successes(np.array(point.success.items), np.array(other.success.items))
    return max(p_success, stats.p_mean_rise(np.array(other.cost.items) - np.array(point.cost.items)))


def pareto_summary(
    rows: Sequence[Row], among: Sequence[Row] | None = None, runs: Runs | None = None
) -> list[list[str]]:
    """One line for each cell, against one dose of the mean difference.

    That is the dose that it comes nearest to improving on, by the p value before adjustment. A cell that improves on
    none, but is dominated by some, has the one that dominates it most clearly: it is not to look open beside another.

    ΔP and Δ cost are how much higher its P(success) and its neutral loss are than those of the mean difference.

    Args:
        rows: The cells to show.
        among: All rows that were measured, where `rows` are a selection of them: all of them are compared, and the p
            values adjusted over all.
        runs: As in `steering.tables.cells.summary`.
    """
    wanted = {row.key for row in rows}
    found = [each for each in _nearest(comparisons(rows if among is None else among)) if each.row.key in wanted]
    runs = runs or Runs.of([comparison.row for comparison in found])
    header = ["method", "layer", "×", "P(success)", "against ×", "ΔP [95 % CI]", "Δ cost [95 % CI]", "p", "verdict"]
    lines = [[*runs.heading, *header]]
    for comparison in found:
        row = comparison.row
        lines.append(
            [
                *(*runs.cell(row), row.method, str(row.layer), wording.multiplier(row), wording.number(row)),
                wording.multiplier(comparison.reference),
                *(wording.interval(*difference, "+.3f") for difference in (comparison.success, comparison.cost)),
                *(wording.p_value(comparison.p_better), comparison.verdict),
            ]
        )
    return lines


def _nearest(found: Sequence[ParetoComparison]) -> list[ParetoComparison]:
    """Of each cell the comparison that is shown, as `pareto_summary` says."""
    cells = grouped(found, lambda comparison: comparison.row.key)
    return [min(of_cell, key=_rank) for of_cell in cells.values()]


def _rank(comparison: ParetoComparison) -> tuple[int, float, float]:
    """Low for what is shown of a cell: an improvement, else a domination, else what is nearest to an improvement."""
    better, worse = comparison.raw_better, comparison.raw_worse
    if comparison.verdict == "dominated":
        return 1, worse, better
    return 0 if comparison.verdict == "improves" else 2, better, worse


def pareto_statement(rows: Sequence[Row], among: Sequence[Row] | None = None) -> str:
    """In words, whether anything is a Pareto improvement over the mean difference; empty where nothing was compared.

    Each study, within which p values are adjusted, has a sentence of its own, if a compared cell is among the rows.
    """
    wanted = {row.key for row in rows}
    by_study = grouped(comparisons(rows if among is None else among), lambda comparison: shared(comparison.row))
    studies = {study: found for study, found in by_study.items() if any(each.row.key in wanted for each in found)}
    runs = Runs.of([found[0].row for found in studies.values()])
    statements = [": ".join([*runs.cell(found[0].row), _statement(found)]) for found in studies.values()]
    return " ".join(statements)


def _statement(found: Sequence[ParetoComparison]) -> str:
    cells = _nearest(found)
    improving = [comparison for comparison in cells if comparison.verdict == "improves"]
    family = (
        f"{len(found)} comparisons of {len(cells)} cells with doses of {REFERENCE} at their layer, each by paired "
        f"tests of both quantities, adjusted together at level {LEVEL:g}"
    )
    if not improving:
        return f"Nothing is shown to be a Pareto improvement over {REFERENCE} ({family}); one may exist all the same."
    named = "; ".join(
        f"{each.row.method} ×{wording.multiplier(each.row)} at layer {each.row.layer} over "
        f"×{wording.multiplier(each.reference)}: P(success) {wording.interval(*each.success, '+.3f')}, neutral loss "
        f"{wording.interval(*each.cost, '+.3f')}"
        for each in improving
    )
    return f"{len(improving)} of {len(cells)} cells are Pareto improvements over {REFERENCE} ({family}): {named}."
