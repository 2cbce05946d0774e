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

from steering.concepts import TEST
from steering.results import OUTCOMES, Configuration, Row, cell_id
from steering.verdicts.baselines import GATED, Baseline, BaselineCell
from steering.verdicts.comparability import cell_differences, obstacles
from steering.verdicts.comparison import Comparison, compare_items
from steering.verdicts.promotion import measured_cells

State = Literal["ok", "regressed", "improved", "not comparable", "missing", "new"]

#: Exit status where a cell cannot be compared; those up to 5 are pytest's own, 3 its internal error.
NOT_COMPARABLE_STATUS = 6


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
    tested = [row for row in rows if row.split == TEST]
    measured = measured_cells(tested)
    # Where none of the cells was measured, that may be because something else was.
    is_another = bool(tested) and not any(cell.key in measured for cell in baseline.cells)
    others = "; ".join(obstacles(baseline, tested[-1])) if is_another else ""
    verdicts: list[CellVerdict] = []
    pairs: list[_Pair] = []
    for cell in baseline.cells:
        entries = measured.pop(cell.key, [])
        if entries or required is None or cell.key in required:
            match = _match(baseline, cell, entries, others)
            if isinstance(match, _Pair):
                pairs.append(match)
            else:
                verdicts.append(match)
    verdicts += _judged_together(baseline, pairs)
    verdicts += [
        CellVerdict(*key, "new", "it is not in the baseline")
        for key, entries in measured.items()
        if _is_new(entries[-1])
    ]
    return GateReport(tuple(sorted(verdicts, key=lambda verdict: (verdict.method, verdict.layer))))


@dataclass(frozen=True)
class _Pair:
    """A cell of the baseline with a measurement that can be compared with it.

    Attributes:
        cell: Of the baseline.
        measured: The last that can be compared.
        passed_over: In what a later measurement, which cannot be compared, differs.
    """

    cell: BaselineCell
    measured: Configuration
    passed_over: str


def _match(
    baseline: Baseline, cell: BaselineCell, entries: Sequence[Configuration], others: str
) -> _Pair | CellVerdict:
    """Find the measurement to compare a cell with, or say why there is none.

    Args:
        baseline: What the cell is of.
        cell: To be compared.
        entries: Measurements of it.
        others: In what the circumstances of all that was measured differ, if nothing of the baseline was.
    """
    if not entries and others:
        return CellVerdict(*cell.key, "not comparable", others)
    if not entries:
        return CellVerdict(*cell.key, "missing", "it is in the baseline and was not measured")
    differences = [cell_differences(baseline, cell, entry) for entry in entries]
    last_differences = "; ".join(differences[-1])
    fitting = [entry for entry, differing in zip(entries, differences, strict=True) if not differing]
    if not fitting:
        return CellVerdict(*cell.key, "not comparable", last_differences)
    if gaps := _gaps(cell, fitting[-1]):
        return CellVerdict(*cell.key, "missing", "; ".join(gaps))
    return _Pair(cell, fitting[-1], last_differences)


def _judged_together(baseline: Baseline, pairs: Sequence[_Pair]) -> list[CellVerdict]:
    """Compare each gated metric over all cells, whose p values are adjusted together."""
    comparisons: dict[tuple[str, int], list[Comparison]] = {pair.cell.key: [] for pair in pairs}
    for metric in GATED:
        name, having = metric.name, [pair for pair in pairs if metric.name in pair.cell.scores]
        items = [(np.array(pair.cell.scores[name].items), np.array(pair.measured.rows[name].items)) for pair in having]
        compared = compare_items(metric, items, margin=baseline.margins[name], level=baseline.levels[name])
        for pair, comparison in zip(having, compared, strict=True):
            comparisons[pair.cell.key].append(comparison)
    return [_judged(baseline, pair, comparisons[pair.cell.key]) for pair in pairs]


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


def _judged(baseline: Baseline, pair: _Pair, comparisons: Sequence[Comparison]) -> CellVerdict:
    states = {comparison.state for comparison in comparisons}
    state: State = next((name for name in ("regressed", "improved") if name in states), "ok")
    shown = [comparison for comparison in comparisons if comparison.state != "ok"] or comparisons
    messages = [comparison.message for comparison in shown]
    reason = "; ".join([*messages, *_remarks(baseline, pair.cell, pair.measured.row)])
    return CellVerdict(*pair.cell.key, state, reason, tuple(comparisons), pair.passed_over)


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
