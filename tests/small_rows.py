"""Rows of results as a run would write them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from steering.results import SAE, UNSTEERED, Row

_ROW = Row(
    run="run-1",
    model="small",
    model_hash="a" * 64,
    dtype="float32",
    device="cpu",
    concept="royalty",
    toward="positive",
    neutral="embedded",
    data_hash="b" * 64,
    method="mean_difference",
    parameters={},
    layer=1,
    multiplier=1.0,
    vector_hash="c" * 64,
    vector_norm=2.5,
    seed=0,
    measurement={"rollouts": 8, "top_p": 0.95},
    metric="rollout_probability",
    value=0.5,
    n=8,
    low=0.25,
    high=0.75,
    p_value=0.03125,
    versions={"torch": "2.0.0", "python": "3.11.0"},
)


def small_row(**changes: Any) -> Row:
    """A rollout probability of mean_difference at layer 1, with some fields changed, and an interval that fits."""
    value = changes.get("value", _ROW.value)
    ends = {"low": None, "high": None} if value is None else {"low": min(0.25, value), "high": max(0.75, value)}
    number = {"n": len(changes["items"])} if changes.get("items") else {}
    return dataclasses.replace(_ROW, **(ends | changes | number))


def unsteered_row(**changes: Any) -> Row:
    """The same of the unsteered run."""
    steering = {"method": UNSTEERED, "layer": None, "multiplier": 0.0, "vector_hash": "", "vector_norm": None}
    return small_row(**(steering | {"p_value": None} | changes))


def configuration(**changes: object) -> list[Row]:
    """Every row that the summary shows of one vector."""
    return [
        small_row(**changes),
        small_row(metric="loss_change_positive", value=-0.12345, **changes),
        small_row(metric="loss_change_negative", value=0.5, **changes),
        small_row(metric="loss_change_neutral", value=0.0004, **changes),
        small_row(metric="one_word_changed", value=0.4, n=15, **changes),
    ]


def quality(**changes: object) -> list[Row]:
    """Every row of one SAE's quality."""
    common = {"method": SAE, "layer": 8, "multiplier": 0.0, "vector_hash": "", "vector_norm": None, "p_value": None}
    common |= {"parameters": {"sae": "saes/layer8", "d_sae": 64}} | changes
    values = {"variance_explained": 0.8, "l0": 32.25, "spliced_loss": 3.5, "loss_recovered": -0.125}
    rows = [
        small_row(metric=f"sae_{name}", value=value, low=min(0.75, value), high=max(0.85, value), **common)
        for name, value in values.items()
    ]
    return [*rows, small_row(metric="sae_silent_features", value=0.015, **common)]


def measured(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Everything in the rows but which run wrote them, in one order."""
    found = [dataclasses.asdict(row) | {"run": ""} for row in rows]
    return sorted(found, key=lambda row: (row["method"], row["layer"] or 0, row["metric"]))
