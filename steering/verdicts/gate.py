"""The regression gate: the rows of a run against a baseline, one verdict for each cell.

Each gated metric is tested in each cell for a change for the worse beyond its margin, and the p values of a metric are
adjusted over the cells by Holm at the metric's level. The levels add up to 5 %: a gate on unchanged code raises a false
alarm in at most one run of twenty, whatever the number of cells.

Losses are of the same texts in every run, and are tested by pairs. Rollouts are tested as independent samples, since a
baseline may bank more of them than a run draws: the old value is then known more exactly. On one machine the new
rollouts draw the same random numbers as the first of the banked ones, and agree with them the more, the less was
changed; the difference then varies less than the test believes, which makes the test conservative, never the opposite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steering import stats
from steering.concepts import TEST
from steering.results import OUTCOMES, Configuration, Row, cell_id
from steering.verdicts.baselines import GATED, Baseline, BaselineCell, GatedMetric
from steering.verdicts.comparability import cell_differences
from steering.verdicts.promotion import measured_cells

State = Literal["ok", "regressed", "improved", "not comparable", "missing", "new"]

#: Exit status where a cell cannot be compared; those up to 5 are pytest's own, 3 its internal error.
NOT_COMPARABLE_STATUS = 6


@dataclass(frozen=True)
class Comparison:
    """One metric of one cell against the baseline.

    Attributes:
        metric: Name.
        old: Mean of the baseline's items.
        old_n: Their number.
        new: Mean of the run's items.
        new_n: Their number.
        low: Lower end of the 95 % interval of new − old: Newcombe's for rollouts, bootstrap over texts for losses.
        high: Upper end.
        margin: Change for the worse that is tolerated.
        level: What the adjusted p values are held against.
        p_value: One-sided, of a change for the worse beyond the margin.
        p_worse: The same, adjusted over the cells.
        p_better: Of a change for the better beyond the margin, adjusted over the cells.
    """

    metric: str
    old: float
    old_n: int
    new: float
    new_n: int
    low: float
    high: float
    margin: float
    level: float
    p_value: float
    p_worse: float
    p_better: float

    @property
    def state(self) -> State:
        """What the adjusted p values say."""
        if self.p_worse <= self.level:
            return "regressed"
        return "improved" if self.p_better <= self.level else "ok"

    @property
    def message(self) -> str:
        """The numbers in one line."""
        p_value, direction = (self.p_better, "better") if self.state == "improved" else (self.p_worse, "worse")
        return (
            f"{self.metric} {self.old:.4f} (n = {self.old_n}) → {self.new:.4f} (n = {self.new_n}), "
            f"difference {self.new - self.old:+.4f} [{self.low:+.4f}, {self.high:+.4f}], "
            f"{direction} with adjusted p = {p_value:.2g} {'<=' if p_value <= self.level else '>'} {self.level:g} "
            f"(margin {self.margin:g})"
        )


@dataclass(frozen=True)
class CellVerdict:
    """What became of one cell.

    Attributes:
        method: Of the cell.
        layer: Of the cell.
        state: "regressed" if any metric did, else "improved" if any did.
        reason: Why, with the numbers.
        comparisons: One for each metric that was compared.
        passed_over: In what a later measurement differs, which could not be compared, and does not count.
    """

    method: str
    layer: int
    state: State
    reason: str
    comparisons: tuple[Comparison, ...] = ()
    passed_over: str = ""

    @property
    def id(self) -> str:
        """The id of the benchmark's test."""
        return cell_id(self.method, self.layer)

    @property
    def message(self) -> str:
        """Cell, state and reason in one line."""
        return f"{self.id}: {self.state}: {self.reason}"


@dataclass(frozen=True)
class GateReport:
    """What became of a run.

    Attributes:
        verdicts: One for each cell, by method and layer.
    """

    verdicts: tuple[CellVerdict, ...]

    @property
    def exit_code(self) -> int:
        """1 if a cell regressed or is missing; else 6 if one is not comparable; else 0."""
        states = {verdict.state for verdict in self.verdicts}
        if states & {"regressed", "missing"}:
            return 1
        return NOT_COMPARABLE_STATUS if "not comparable" in states else 0

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of cells."""
        return dict(Counter(verdict.state for verdict in self.verdicts))


def compare(baseline: Baseline, rows: Sequence[Row], required: Collection[tuple[str, int]] | None = None) -> GateReport:
    """Hold rows against a baseline.

    Args:
        baseline: What was promoted.
        rows: Of one or several runs; of several measurements of a cell, the last that can be compared counts.
        required: (method, layer) of the cells of the baseline that must have been measured; by default all. A cell that
            failed counts as missing wherever it was tried.
    """
    # As baselines are; layers and doses may have been chosen on another split, beside it.
    found = measured_cells([row for row in rows if row.split == TEST])
    settled: list[CellVerdict] = []
    comparable: list[tuple[BaselineCell, Configuration]] = []
    passed_over: dict[tuple[str, int], str] = {}
    for cell in baseline.cells:
        entries = found.pop(cell.key, [])
        told = [cell_differences(baseline, cell, entry) for entry in entries]
        fitting = [entry for entry, differences in zip(entries, told, strict=True) if not differences]
        differing = "; ".join(told[-1]) if told else ""
        if not entries:
            if required is None or cell.key in required:
                settled.append(CellVerdict(*cell.key, "missing", "it is in the baseline and was not measured"))
        elif not fitting:
            settled.append(CellVerdict(*cell.key, "not comparable", differing))
        elif gaps := _gaps(cell, fitting[-1]):
            settled.append(CellVerdict(*cell.key, "missing", "; ".join(gaps)))
        else:
            comparable.append((cell, fitting[-1]))
            passed_over[cell.key] = differing
    comparisons: dict[tuple[str, int], list[Comparison]] = {cell.key: [] for cell, _ in comparable}
    for metric in GATED:
        pairs = [(cell, entry) for cell, entry in comparable if metric.name in cell.scores]
        for (cell, _), comparison in zip(pairs, _compared(baseline, metric, pairs), strict=True):
            comparisons[cell.key].append(comparison)
    settled += [
        _judged(baseline, cell, entry, comparisons[cell.key], passed_over[cell.key]) for cell, entry in comparable
    ]
    settled += [
        CellVerdict(*key, "new", "it is not in the baseline") for key, entries in found.items() if _is_new(entries[-1])
    ]
    return GateReport(tuple(sorted(settled, key=lambda verdict: (verdict.method, verdict.layer))))


def _gaps(cell: BaselineCell, measured: Configuration) -> list[str]:
    """Metrics of the baseline that the run has no value of, and why."""
    gaps = []
    for name in cell.scores:
        row = measured.get(name)
        if row is None:
            gaps.append(f"{name} was not measured")
        elif row.status != "ok":
            gaps.append(f"{name} {'failed' if row.status == 'failed' else 'was skipped'}: {row.reason}")
    return gaps


def _compared(
    baseline: Baseline, metric: GatedMetric, pairs: Sequence[tuple[BaselineCell, Configuration]]
) -> list[Comparison]:
    """One metric in all cells that can be compared."""
    margin = baseline.margins[metric.name]
    items = [
        (np.array(cell.scores[metric.name].items), np.array(measured.rows[metric.name].items))
        for cell, measured in pairs
    ]
    intervals = [
        stats.mean_interval(new - old) if metric.paired else stats.difference_interval(new, old) for old, new in items
    ]
    worse = [p_of_worse(metric, old, new, margin) for old, new in items]
    better = [p_of_worse(metric, new, old, margin) for old, new in items]
    adjusted = zip(items, intervals, worse, stats.holm(worse), stats.holm(better), strict=True)
    return [
        Comparison(
            metric=metric.name,
            old=float(old.mean()),
            old_n=len(old),
            new=float(new.mean()),
            new_n=len(new),
            low=low,
            high=high,
            margin=margin,
            level=baseline.levels[metric.name],
            p_value=p_value,
            p_worse=float(p_worse),
            p_better=float(p_better),
        )
        for (old, new), (low, high), p_value, p_worse, p_better in adjusted
    ]


def p_of_worse(metric: GatedMetric, old: np.ndarray, new: np.ndarray, margin: float) -> float:
    """One-sided p value of a change for the worse beyond a margin, in one cell; swapped sides give that for the better.

    Args:
        metric: Says which direction is worse, and which test applies.
        old: `[old item]`.
        new: `[item]`.
        margin: In the unit of the items.
    """
    if not metric.paired:
        lower, higher = (new, old) if metric.higher_is_better else (old, new)
        return stats.p_proportion_drop(lower, higher, margin)
    return stats.p_mean_rise(old - new if metric.higher_is_better else new - old, margin)


def _judged(
    baseline: Baseline, cell: BaselineCell, measured: Configuration, comparisons: Sequence[Comparison], passed_over: str
) -> CellVerdict:
    states = {comparison.state for comparison in comparisons}
    state: State = next((name for name in ("regressed", "improved") if name in states), "ok")
    shown = [comparison for comparison in comparisons if comparison.state != "ok"] or comparisons
    told = [comparison.message for comparison in shown]
    reason = "; ".join([*told, *_remarks(baseline, cell, measured.row)])
    return CellVerdict(*cell.key, state, reason, tuple(comparisons), passed_over)


def _remarks(baseline: Baseline, cell: BaselineCell, row: Row) -> list[str]:
    """What differs from the baseline without standing in the way of a comparison."""
    remarks = []
    if row.vector_hash != cell.vector_hash:
        remarks.append(
            f"the vector is another: {row.vector_hash[:8]} of norm {_shown(row.vector_norm)}, "
            f"before {cell.vector_hash[:8]} of norm {_shown(cell.vector_norm)}"
        )
    if row.device != cell.device:
        remarks.append(f"computed on {row.device}, before on {cell.device}")
    remarks += [
        f"computed with {name} {row.versions[name]}, before with {before}"
        for name, before in baseline.versions.items()
        if name in row.versions and row.versions[name] != before
    ]
    for key in sorted(OUTCOMES):
        now, before = row.parameters.get(key), cell.parameters.get(key)
        if now != before:
            remarks.append(f"{key} is {now!r}, before {before!r}")
    return remarks


def _shown(norm: float | None) -> str:
    return "unknown" if norm is None else f"{norm:.6g}"


def _is_new(measured: Configuration) -> bool:
    return not measured.row.is_control and all(row.status != "failed" for row in measured.rows.values())
