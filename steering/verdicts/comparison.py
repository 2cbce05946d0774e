"""One metric in all cells of a baseline that can be compared: differences, intervals and adjusted p values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steering import stats
from steering.verdicts.baselines import GatedMetric


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
    def state(self) -> Literal["ok", "regressed", "improved"]:
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


def compare_items(
    metric: GatedMetric, items: Sequence[tuple[np.ndarray, np.ndarray]], *, margin: float, level: float
) -> list[Comparison]:
    """Compare a metric in several cells, over which the p values are adjusted.

    Args:
        metric: Says which direction is worse, and which test applies.
        items: Of each cell: the baseline's `[old item]` and the run's `[item]`.
        margin: Change for the worse that is tolerated, in the unit of the items.
        level: What the adjusted p values are held against.
    """
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
            level=level,
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
