"""What the gate found, and what it can find, as tables and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

from steering.power import minimum_detectable_difference, minimum_detectable_drop, power_of_drop
from steering.results import SUCCESS
from steering.tables import wording
from steering.tables.wording import ABSENT, HEADINGS
from steering.verdicts.baselines import GATED, Baseline, BaselineScore
from steering.verdicts.comparison import Comparison
from steering.verdicts.gate import GateReport

_SIGNED = {name: "" if name == SUCCESS else "+" for name in HEADINGS}
_MARKS = {"regressed": " worse", "improved": " better"}
# Of the table of power.
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
_DROPS = (0.05, 0.1, 0.15, 0.2)
_POWER = 0.8


def verdict_table(report: GateReport) -> list[list[str]]:
    """One line for each cell of the baseline, under a line of headings.

    "worse" and "better" stand where a change is beyond chance and margin.
    """
    lines = [["method", "layer", "verdict", *(HEADINGS[metric.name] for metric in GATED)]]
    for verdict in report.verdicts:
        if verdict.state != "new":
            compared = {comparison.metric: comparison for comparison in verdict.comparisons}
            values = [_change(compared.get(metric.name)) for metric in GATED]
            lines.append([verdict.method, str(verdict.layer), verdict.state, *values])
    return lines


def remarks(report: GateReport) -> list[str]:
    """What has to be said of cells that are not ok, cells with the same message together, and how many are what."""
    said: dict[str, list[str]] = {}
    new: dict[str, list[int]] = {}
    for verdict in report.verdicts:
        if verdict.state == "new":
            new.setdefault(verdict.method, []).append(verdict.layer)
        elif verdict.state != "ok":
            said.setdefault(f"{verdict.state}: {verdict.reason}", []).append(verdict.id)
        if verdict.passed_over:
            said.setdefault(f"a later measurement does not count, since {verdict.passed_over}", []).append(verdict.id)
    lines = [f"{', '.join(cells)}: {message}" for message, cells in said.items()]
    lines += [f"{method} at {wording.counted_layers(layers)}: not in the baseline" for method, layers in new.items()]
    counted = ", ".join(f"{count} {state}" for state, count in sorted(report.counts.items()))
    return [*lines, f"{wording.counted(len(report.verdicts), 'cell')}: {counted or 'nothing to compare'}"]


def to_json(report: GateReport) -> str:
    """The whole report, at full precision."""
    fields = {"exit_code": report.exit_code, "counts": report.counts} | asdict(report)
    return json.dumps(fields, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def baseline_table(baseline: Baseline) -> list[list[str]]:
    """One line for each cell of a baseline, under a line of headings."""
    lines = [["method", "layer", "×", "norm", "rollouts", *(HEADINGS[metric.name] for metric in GATED)]]
    for cell in baseline.cells:
        rollouts = cell.scores.get(SUCCESS)
        values = [_value(metric.name, cell.scores.get(metric.name)) for metric in GATED]
        banked = ABSENT if rollouts is None else str(rollouts.n)
        added = (wording.multiplier(cell), wording.norm(cell))
        lines.append([cell.method, str(cell.layer), *added, banked, *values])
    return lines


def drop_table(rollouts: int, baseline_rollouts: int, cells: int, level: float) -> list[list[str]]:
    """How probably the gate finds a drop of P(success) in one of its cells, under a line of headings.

    Args:
        rollouts: Of the new run.
        baseline_rollouts: Of the baseline.
        cells: That are compared.
        level: Of the gated metric, shared by the cells.
    """
    lines = [
        ["P(success) before", *(f"−{drop * 100:.0f} points" for drop in _DROPS), f"found with {_POWER * 100:.0f} %"]
    ]
    for share in _SHARES:
        sizes = (rollouts, baseline_rollouts)
        found = power_of_drop(share, np.array(_DROPS), *sizes, alpha=level, cells=cells)
        smallest = minimum_detectable_drop(share, *sizes, alpha=level, power=_POWER, cells=cells)
        shown = [f"{power * 100:.0f} %" if drop <= share else ABSENT for drop, power in zip(_DROPS, found, strict=True)]
        lines.append([f"{share:.2f}", *shown, ABSENT if smallest is None else f"−{smallest * 100:.1f} points"])
    return lines


def rise_table(rollouts: int, cells: int, alpha: float) -> list[list[str]]:
    """Smallest rise above the unsteered run that a claim's paired test finds with a probability of 80 %.

    Args:
        rollouts: Pairs of rollouts.
        cells: Over which claims are adjusted, in the last column; the one before, if any, is for a single cell.
        alpha: Level of the test.
    """
    counts = sorted({1, cells})
    lines = [["P(success) unsteered", *("one cell" if count == 1 else f"{count} cells" for count in counts)]]
    for share in _SHARES:
        found = [
            minimum_detectable_difference(rollouts, share, alpha=alpha, power=_POWER, cells=count) for count in counts
        ]
        lines.append([f"{share:.2f}", *(ABSENT if rise is None else f"+{rise * 100:.1f} points" for rise in found)])
    return lines


def _change(comparison: Comparison | None) -> str:
    if comparison is None:
        return ABSENT
    sign = _SIGNED[comparison.metric]
    return f"{comparison.old:{sign}.3f} → {comparison.new:{sign}.3f}{_MARKS.get(comparison.state, '')}"


def _value(metric: str, score: BaselineScore | None) -> str:
    return ABSENT if score is None else f"{score.value:{_SIGNED[metric]}.3f}"
