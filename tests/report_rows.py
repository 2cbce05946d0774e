"""A small run as a report meets it: an unsteered run, two methods and a control at three layers, with their items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest

from steering.feature_weights import FeatureWeight
from steering.results import Row
from tests.small_rows import quality, small_row, unsteered_row

ROLLOUTS = 40
LAYERS = (4, 8, 20)
#: Successes of 40, by method and layer; the unsteered run has 4.
SUCCESSES = {"mean_difference": (5, 30, 38), "feature_delta": (4, 12, 20), "random_direction": (5, 3, 6)}
UNSTEERED_SUCCESSES = 4
DAMAGE = {
    "mean_difference": (0.01, 0.05, 0.2),
    "feature_delta": (0.02, 0.03, 0.04),
    "random_direction": (0, 0.01, 0.02),
}
CONTROL = "random_direction"
MEASUREMENT = {"rollouts": ROLLOUTS, "new_tokens": 12}


@dataclass(frozen=True)
class StandIn:
    """A figure of the shape that reports take."""

    name: str = "success"
    title: str = "P(success) by layer"
    caption: str = "A line for each method."
    data: tuple[tuple[Any, ...], ...] = (("method", "layer", "value"), ("mean_difference", 4, 0.125))

    def draw(self) -> Figure:
        figure = Figure(figsize=(4, 3))
        axes = figure.subplots()
        axes.plot([4, 8, 20], [0.1, 0.5, 0.9], marker="o", label=self.title)
        axes.imshow(np.eye(3), extent=(5, 7, 0.2, 0.4), aspect="auto")
        axes.set_title(self.title)
        axes.legend()
        return figure


def items(successes: int) -> tuple[float, ...]:
    """The first rollouts fail: those that succeed in one cell succeed in each with more successes."""
    return (0.0,) * (ROLLOUTS - successes) + (1.0,) * successes


def mcnemar(successes: int, baseline: int) -> float:
    """One-sided exact p value of nested successes."""
    gained, lost = max(0, successes - baseline), max(0, baseline - successes)
    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, alternative="greater").pvalue)


def texts(successes: int, keyword: str = "king") -> tuple[str, ...]:
    return tuple(f" a {keyword}, {n}" if item else f" a tree, {n}" for n, item in enumerate(items(successes)))


def success_row(method: str, layer: int, successes: int, **changes: Any) -> Row:
    control = "" if method == CONTROL else CONTROL
    at = LAYERS.index(layer)
    share = successes / ROLLOUTS
    fields = {
        "method": method,
        "layer": layer,
        "vector_hash": f"{method}-{layer}",
        "value": share,
        "low": max(0.0, share - 0.1),
        "high": min(1.0, share + 0.1),
        "n": ROLLOUTS,
        "items": items(successes),
        "texts": texts(successes),
        "p_value": mcnemar(successes, UNSTEERED_SUCCESSES),
        "p_control": mcnemar(successes, SUCCESSES[CONTROL][at]) if control else None,
        "control": control,
        "is_control": method == CONTROL,
        "measurement": MEASUREMENT,
        "features": (FeatureWeight(3, 1.5, "fires on kings"),) if method == "feature_delta" else (),
    }
    return small_row(**(fields | changes))


def damage_row(method: str, layer: int, mean: float, **changes: Any) -> Row:
    values = tuple((mean + np.linspace(-0.01, 0.01, 11)).tolist())
    fields = {
        "metric": "loss_change_neutral",
        "value": mean,
        "low": mean - 0.005,
        "high": mean + 0.005,
        "n": len(values),
        "items": values,
        "texts": (),
        "p_value": None,
        "p_control": None,
    }
    return success_row(method, layer, UNSTEERED_SUCCESSES, **(fields | changes))


def unsteered(**changes: Any) -> Row:
    share = UNSTEERED_SUCCESSES / ROLLOUTS
    fields = {"value": share, "low": 0.04, "high": 0.23, "n": ROLLOUTS, "measurement": MEASUREMENT}
    found = {"items": items(UNSTEERED_SUCCESSES), "texts": texts(UNSTEERED_SUCCESSES)}
    return unsteered_row(**(fields | found | changes))


def run(**changes: Any) -> list[Row]:
    """All rows of the run, with some fields of all of them changed."""
    rows = [unsteered(**changes)]
    for method, counts in SUCCESSES.items():
        for layer, successes, mean in zip(LAYERS, counts, DAMAGE[method], strict=True):
            rows += [success_row(method, layer, successes, **changes), damage_row(method, layer, mean, **changes)]
    return [*rows, *quality(**({"measurement": MEASUREMENT} | changes))]
