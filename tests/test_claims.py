"""Verdicts on cells, and when a profile's claims say nothing about a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from steering.claims import judge, waiver, without_claims
from steering.metrics import Score
from steering.profiles import MethodPlan, Profile
from steering.sweep import Cell, Outcome
from tests.small_rows import small_row

PROFILE = Profile(
    "test", "", "m", "c", "n", (MethodPlan("mean_difference", 2.0, {}, (3,)), MethodPlan("random_direction", 2.0))
)
CELL = Cell("mean_difference", 3, 2.0)


def outcome(p_value: float = 1e-6, change: float = 0.05, cell: Cell = CELL) -> Outcome:
    success = Score("rollout_probability", np.array([1.0, 0.0, 1.0, 1.0]), 0.3, 0.9, p_value)
    neutral = Score("loss_change_neutral", np.full(4, change), change, change)
    return Outcome(cell, {score.metric: score for score in (success, neutral)}, ())


def test_claim_holds_above_baseline_within_the_bound():
    verdict = judge(PROFILE, CELL, outcome())
    assert verdict.state == "holds"
    assert verdict.message == (
        "mean_difference-layer3: rollout probability 0.750 is significantly above the unsteered run "
        "(p = 1e-06 < alpha = 0.01, n = 4); neutral loss change +0.050, upper bound +0.050, "
        "is under 0.1 nats per token (n = 4)"
    )


@pytest.mark.parametrize(
    ("p_value", "change", "reason"),
    [(0.01, 0.05, "is not significantly above"), (1e-6, 0.1, "is not under 0.1"), (1e-6, 0.3, "is not under 0.1")],
)
def test_claim_is_broken_by_either_part(p_value, change, reason):
    verdict = judge(PROFILE, CELL, outcome(p_value, change))
    assert verdict.state == "broken"
    assert reason in verdict.message


@pytest.mark.parametrize("cell", [Cell("mean_difference", 4, 2.0), Cell("random_direction", 3, 2.0)])
def test_cell_without_a_claim_is_recorded_whatever_it_shows(cell):
    verdict = judge(PROFILE, cell, outcome(1.0, 9.0, cell))
    assert verdict.state == "no claim"
    assert "recorded" in verdict.message


@pytest.mark.parametrize("layer", [3, 4])
def test_failed_metric_breaks_a_cell_claimed_or_not(layer):
    row = small_row(metric="loss_neutral", value=None, status="failed", reason="the loss of text 3 is nan")
    cell = Cell("mean_difference", layer, 2.0)
    verdict = judge(PROFILE, cell, dataclasses.replace(outcome(cell=cell), rows=(row, row)))
    assert verdict.state == "broken"
    assert verdict.message.endswith("not measured: the loss of text 3 is nan")


def test_the_bound_is_held_by_the_interval_not_by_the_mean():
    items = np.array([0.0, 0.0, 0.0, 0.36])
    scored = outcome()
    scored.scores["loss_change_neutral"] = Score("loss_change_neutral", items, 0.0, 0.3)
    assert items.mean() < PROFILE.neutral_bound
    assert judge(PROFILE, CELL, scored).state == "broken"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "other"}, "for model as it is written"),
        ({"concept": "other"}, "for concept as"),
        ({"toward": "negative"}, "for toward as"),
        ({"methods": (MethodPlan("mean_difference", 3.0, {}, (3,)),)}, "for methods as"),
        ({"rollouts": 20}, "need 200 rollouts, and 20 were asked for"),
    ],
)
def test_claims_are_waived_where_they_were_not_made_for_the_run(change, reason):
    assert reason in waiver(dataclasses.replace(PROFILE, **change), PROFILE)


@pytest.mark.parametrize("change", [{}, {"seed": 5}, {"rollouts": 2000}, {"layers": (3,)}])
def test_claims_stand_for_other_seeds_layers_and_more_rollouts(change):
    assert waiver(dataclasses.replace(PROFILE, **change), PROFILE) == ""


def test_profile_without_claims_keeps_everything_else():
    bare = without_claims(PROFILE)
    assert all(plan.claimed_layers == () for plan in bare.methods)
    assert judge(bare, CELL, outcome(1.0, 9.0)).state == "no claim"
    assert [plan.multiplier for plan in bare.methods] == [2.0, 2.0]
