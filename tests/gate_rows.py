"""Rows of steered cells with their items, and baselines of them, as the gate meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steering.results import Row
from steering.verdicts.baselines import GATED, Baseline
from steering.verdicts.promotion import promote
from tests.small_rows import small_row

LOSSES = {"loss_change_neutral": 0.05, "loss_change_positive": 0.06, "loss_change_negative": 0.3}
MEASUREMENT = {"rollouts": 200, "new_tokens": 40, "temperature": 1.0, "top_p": 0.8}


def rollouts(successes: int, count: int = 200) -> list[float]:
    return [1.0] * successes + [0.0] * (count - successes)


def losses(mean: float, count: int = 50, seed: int = 0) -> list[float]:
    noise = np.random.default_rng(seed).normal(0, 0.05, count)
    return (mean + noise - noise.mean()).tolist()


def items_of(successes: int = 100, count: int = 200, **shifts: float) -> dict[str, Sequence[float]]:
    """Items of each gated metric; losses as they always are, but for what is added to them by name."""
    shifted = {
        name: losses(mean + shifts.get(name, 0.0), seed=number) for number, (name, mean) in enumerate(LOSSES.items())
    }
    return {"rollout_probability": rollouts(successes, count)} | shifted


def cell(
    layer: int = 20, items: Mapping[str, Sequence[float]] | None = None, method: str = "mean_difference", **changes: Any
) -> list[Row]:
    """The rows of one cell: those of the gated metrics, and one that the gate does not watch."""
    found = items_of() if items is None else items
    number = len(found["rollout_probability"]) if "rollout_probability" in found else 200
    fields = {"method": method, "layer": layer, "multiplier": 12.0, "measurement": MEASUREMENT | {"rollouts": number}}
    rows = [
        small_row(
            **(
                fields
                | {"metric": name, "items": tuple(values), "n": len(values), "value": float(np.mean(values))}
                | changes
            )
        )
        for name, values in found.items()
    ]
    return [
        *rows,
        small_row(**(fields | {"metric": "one_word_changed", "value": 0.5, "items": (0.0, 1.0), "n": 2} | changes)),
    ]


def failed(rows: Sequence[Row], reason: str = "NaN or infinity in a loss", **changes: Any) -> list[Row]:
    """The same rows as of a cell whose measurement failed."""
    lost = {"value": None, "low": None, "high": None, "n": 0, "items": (), "status": "failed", "reason": reason}
    return [replace(row, **(lost | changes)) for row in rows]


def baseline_of(*cells: Sequence[Row], **options: Any) -> Baseline:
    return promote([row for rows in cells for row in rows], **options)


METRICS = tuple(metric.name for metric in GATED)
