"""Rows of results as a run would write them."""

from __future__ import annotations

import dataclasses
from typing import Any

from steering.results import UNSTEERED, Row

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
)


def small_row(**changes: Any) -> Row:
    """A rollout probability of mean_difference at layer 1, with some fields changed."""
    return dataclasses.replace(_ROW, **changes)


def unsteered_row(**changes: Any) -> Row:
    """The same of the unsteered run."""
    steering = {"method": UNSTEERED, "layer": None, "multiplier": 0.0, "vector_hash": "", "vector_norm": None}
    return small_row(**(steering | {"p_value": None} | changes))
