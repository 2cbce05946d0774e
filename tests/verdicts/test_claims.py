"""Verdicts on cells and on SAEs, and when a profile's claims say nothing about a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.metrics import Score
from steering.profiles import MethodPlan, Profile, SaeBounds
from steering.results import SAE
from steering.sweeps.cells import Cell, Outcome
from steering.sweeps.plans import at_equal_norm
from steering.sweeps.sae_quality import SaeOutcome
from steering.verdicts.claims import judge, judge_sae, waiver, without_claims
from tests.small_rows import small_row

PLAN = MethodPlan("mean_difference", 2.0, claimed_layers=(3,))
CONTROL = MethodPlan("random_direction", 2.0)
BOUNDS = SaeBounds(variance_explained=0.7, loss_recovered=0.8, l0=40)
PROFILE = Profile("test", "", "m", "c", "n", (PLAN, CONTROL))
CONTROLLED = dataclasses.replace(PROFILE, methods=(dataclasses.replace(PLAN, control=CONTROL.name), CONTROL))
CELL = Cell("mean_difference", 3, 2.0)
FAILED = small_row(metric="loss_neutral", value=None, status="failed", reason="the loss of text 3 is nan")


def outcome(
    p_value: float | None = 1e-6, change: float = 0.05, cell: Cell | None = CELL, p_control: float | None = None
) -> Outcome:
    success = Score(
        "rollout_probability", np.array([1.0, 0.0, 1.0, 1.0]), 0.3, 0.9, p_value=p_value, p_control=p_control
    )
    neutral = Score("loss_change_neutral", np.full(4, change), change, change)
    return Outcome(cell, {score.metric: score for score in (success, neutral)}, ())


def sae_outcome(variance: float = 0.7, recovered: float = 0.8, active: float = 40.0) -> SaeOutcome:
    """Quality of one SAE; the numbers are the ends of the intervals that a bound looks at."""
    scores = (
        Score("sae_variance_explained", np.array([variance + 0.1]), variance, variance + 0.2),
        Score("sae_loss_recovered", np.array([recovered + 0.1]), recovered, recovered + 0.2),
        Score("sae_l0", np.array([active - 5]), active - 10, active),
    )
    return SaeOutcome(8, {score.metric: score for score in scores}, ())


def test_claim_holds_above_baseline_within_the_bound():
    verdict = judge(PROFILE, outcome())
    assert verdict.state == "holds"
    assert verdict.message == (
        "mean_difference-layer3: rollout probability 0.750 is significantly above the unsteered run "
        "(p = 1e-06 < 0.01, which is 0.01 / 1, n = 4); neutral loss change +0.050, upper bound +0.050, "
        "is under 0.1 nats per token (n = 4)"
    )


@pytest.mark.parametrize(
    ("p_value", "change", "reason"),
    [
        (0.01, 0.05, "is not significantly above"),
        (None, 0.05, "cannot be held against the unsteered run, which was not measured"),
        (1e-6, 0.1, "is not under 0.1"),
        (1e-6, 0.3, "is not under 0.1"),
    ],
)
def test_claim_is_broken_by_either_part(p_value, change, reason):
    verdict = judge(PROFILE, outcome(p_value, change))
    assert verdict.state == "broken"
    assert reason in verdict.message


def test_claim_with_a_control_holds_above_both():
    verdict = judge(CONTROLLED, outcome(p_control=0.009))
    assert verdict.state == "holds"
    baseline, control, neutral = verdict.message.split("; ")
    assert "is significantly above the unsteered run (p = 1e-06 < 0.01" in baseline
    assert control == (
        "rollout probability 0.750 is significantly above its control random_direction "
        "(p = 0.009 < 0.01, which is 0.01 / 1, n = 4)"
    )
    assert neutral.startswith("neutral loss change")


def test_claims_of_a_profile_share_the_level():
    plan = PROFILE.plan("mean_difference")
    four = dataclasses.replace(plan, claimed_layers=(1, 2, 3, 4))
    many = dataclasses.replace(PROFILE, methods=(four, CONTROL))
    assert judge(many, outcome(0.0024)).state == "holds"
    broken = judge(many, outcome(0.0026))
    assert (broken.state, "p = 0.0026 >= 0.0025, which is 0.01 / 4" in broken.message) == ("broken", True)


@pytest.mark.parametrize("p_control", [0.01, 1.0])
def test_claim_is_broken_by_its_control_alone(p_control):
    verdict = judge(CONTROLLED, outcome(p_control=p_control))
    assert verdict.state == "broken"
    assert "is not significantly above its control random_direction" in verdict.message
    assert "is significantly above the unsteered run" in verdict.message


def test_claim_is_broken_by_a_control_that_was_not_measured_and_no_p_is_made_up():
    verdict = judge(CONTROLLED, outcome(p_control=None))
    assert verdict.state == "broken"
    baseline, control, _ = verdict.message.split("; ")
    assert "is significantly above the unsteered run" in baseline
    assert control == (
        "rollout probability 0.750 cannot be held against its control random_direction, which was not measured"
    )


def test_a_test_against_a_control_that_the_plan_does_not_name_decides_nothing():
    verdict = judge(PROFILE, outcome(p_control=1.0))
    assert verdict.state == "holds"
    assert "control" not in verdict.message


@given(p_value=st.floats(0, 1), p_control=st.floats(0, 1), change=st.floats(-1, 1))
def test_claim_holds_where_each_of_its_parts_does(p_value, p_control, change):
    verdict = judge(CONTROLLED, outcome(p_value, change, p_control=p_control))
    holds = p_value < 0.01 and p_control < 0.01 and change < 0.1
    assert (verdict.state == "holds") is holds
    assert ("is not" in verdict.message) is not holds


@pytest.mark.parametrize("cell", [Cell("mean_difference", 4, 2.0), Cell("random_direction", 3, 2.0)])
def test_cell_without_a_claim_is_recorded_whatever_it_shows(cell):
    verdict = judge(CONTROLLED, outcome(1.0, 9.0, cell))
    assert verdict.state == "no claim"
    assert "recorded" in verdict.message


@pytest.mark.parametrize("layer", [3, 4])
def test_failed_metric_breaks_a_cell_claimed_or_not(layer):
    failed = dataclasses.replace(outcome(cell=Cell("mean_difference", layer, 2.0)), rows=(FAILED, FAILED))
    verdict = judge(PROFILE, failed)
    assert verdict.state == "broken"
    assert verdict.message.endswith("not measured: the loss of text 3 is nan")


def test_skipped_metric_breaks_nothing():
    skipped = dataclasses.replace(FAILED, status="skipped", reason="the concept has no one_word_prompts")
    assert judge(PROFILE, dataclasses.replace(outcome(), rows=(skipped,))).state == "holds"


def test_the_unsteered_run_cannot_be_judged():
    with pytest.raises(ValueError, match="unsteered"):
        judge(PROFILE, outcome(cell=None))


def test_the_bound_is_held_by_the_interval_not_by_the_mean():
    items = np.array([0.0, 0.0, 0.0, 0.36])
    scored = outcome()
    scored.scores["loss_change_neutral"] = Score("loss_change_neutral", items, 0.0, 0.3)
    assert items.mean() < PROFILE.neutral_bound
    assert judge(PROFILE, scored).state == "broken"


def test_quality_of_an_sae_holds_where_the_whole_interval_keeps_the_bounds():
    verdict = judge_sae(dataclasses.replace(PROFILE, sae_bounds=BOUNDS), sae_outcome())
    assert verdict.state == "holds"
    assert verdict.message == (
        "SAE of layer 8: variance explained 0.800, lower end 0.700 >= 0.7; loss recovered 0.900, lower end 0.800 >= "
        "0.8; L0 35.0, upper end 40.0 <= 40"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"variance": 0.69}, "variance explained 0.790, lower end 0.690 < 0.7"),
        ({"recovered": 0.75}, "loss recovered 0.850, lower end 0.750 < 0.8"),
        ({"active": 40.1}, "L0 35.1, upper end 40.1 > 40"),
    ],
)
def test_quality_of_an_sae_is_broken_by_the_end_of_an_interval(change, reason):
    profile = dataclasses.replace(PROFILE, sae_bounds=BOUNDS)
    verdict = judge_sae(profile, sae_outcome(**change))
    assert verdict.state == "broken"
    assert reason in verdict.message


@pytest.mark.parametrize("key", ["variance_explained", "loss_recovered", "l0"])
def test_each_bound_of_an_sae_can_be_claimed_alone(key):
    profile = dataclasses.replace(PROFILE, sae_bounds=SaeBounds(**{key: 40.0 if key == "l0" else 0.5}))
    assert judge_sae(profile, sae_outcome()).state == "holds"
    assert judge_sae(profile, sae_outcome()).message.count(";") == 0
    assert judge_sae(profile, sae_outcome(variance=0.1, recovered=0.1, active=90.0)).state == "broken"


def test_sae_of_which_nothing_is_claimed_is_recorded():
    verdict = judge_sae(PROFILE, sae_outcome(0.0, 0.0, 1e6))
    assert (verdict.state, verdict.message) == ("no claim", "SAE of layer 8: recorded; the profile makes no claim")


@pytest.mark.parametrize("bounds", [BOUNDS, SaeBounds()])
def test_sae_that_could_not_be_measured_is_broken_claimed_or_not(bounds):
    row = dataclasses.replace(FAILED, method=SAE, metric="sae_l0", reason="the loss of text 1 is inf")
    verdict = judge_sae(dataclasses.replace(PROFILE, sae_bounds=bounds), SaeOutcome(8, {}, (row, row)))
    assert verdict.state == "broken"
    assert verdict.message == "SAE of layer 8: not measured: the loss of text 1 is inf"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "other"}, "for its own model"),
        ({"concept": "other"}, "for its own concept"),
        ({"toward": "negative"}, "for its own side of the concept"),
        ({"neutral": "other"}, "for its own neutral text"),
        ({"methods": (MethodPlan("mean_difference", 3.0, claimed_layers=(3,)),)}, "for its own methods and doses"),
        ({"methods": at_equal_norm(PROFILE).methods}, "for its own methods and doses"),
        ({"saes": "other"}, "for its own SAEs"),
        ({"descriptions": "other.jsonl"}, "for its own descriptions"),
        ({"new_tokens": 7}, "for its own length of completions"),
        ({"temperature": 0.5}, "for its own"),
        ({"top_p": 0.5}, "for its own"),
        ({"neutral_budget": 0.1}, "for its own"),
        ({"steered_positions": "all"}, "for its own steered positions"),
        ({"rollouts": 20}, "need 200 rollouts, and 20 were asked for"),
    ],
)
def test_claims_are_waived_where_they_were_not_made_for_the_run(change, reason):
    assert reason in waiver(dataclasses.replace(PROFILE, **change), PROFILE)


@pytest.mark.parametrize("change", [{}, {"seed": 5}, {"rollouts": 2000}, {"layers": (3,)}])
def test_claims_stand_for_other_seeds_layers_and_more_rollouts(change):
    assert waiver(dataclasses.replace(PROFILE, **change), PROFILE) == ""


def test_profile_without_claims_keeps_everything_else():
    claiming = dataclasses.replace(CONTROLLED, sae_bounds=BOUNDS, saes="embedded")
    bare = without_claims(claiming)
    assert judge(bare, outcome(1.0, 9.0)).state == "no claim"
    assert judge_sae(bare, sae_outcome(0.0)).state == "no claim"
    assert bare.methods == (dataclasses.replace(claiming.methods[0], claimed_layers=()), CONTROL)
    assert dataclasses.replace(bare, methods=claiming.methods, sae_bounds=BOUNDS) == claiming
