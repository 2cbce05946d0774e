"""What --equal-norm and a foreign model make of a profile's plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steering.errors import DataError, SteeringError, UnknownNameError
from steering.profiles import MethodPlan, Profile, SaeBounds
from steering.sweeps.plans import at_equal_norm, at_multiplier, check_plans, without_foreign_saes

DIFFERENCE = MethodPlan("mean_difference", 12.0, claimed_layers=(3,))
RANDOM = MethodPlan("random_direction", 5.0, parameters={"seed": 3})
DELTA = MethodPlan("delta", 80.0, "feature_delta", {"top": 4}, control="other features", claimed_layers=(3,))
FEATURES = MethodPlan("other features", 80.0, "random_features")
PROFILE = Profile(
    "test", "", "embedded", "c", "n", (RANDOM, DIFFERENCE, DELTA, FEATURES), "embedded", sae_bounds=SaeBounds(l0=9)
)


def test_vectors_of_equal_norm_are_those_of_the_mean_difference_at_its_multiplier():
    scaled = at_equal_norm(PROFILE)
    assert [(plan.multiplier, plan.norm_of) for plan in scaled.methods] == [
        (12.0, "mean_difference"),
        (12.0, ""),
        (12.0, "mean_difference"),
        (12.0, "mean_difference"),
    ]


def test_vectors_that_are_turned_round_stay_so_at_equal_norm_and_at_another_dose():
    turned = MethodPlan("sign_flipped", -3.0, "mean_difference", is_control=True)
    profile = replace(PROFILE, methods=(DIFFERENCE, turned))
    assert at_equal_norm(profile).plan("sign_flipped").multiplier == -12.0
    assert [plan.multiplier for plan in at_multiplier(profile, 5.0).methods] == [5.0, -5.0]


def test_equal_norm_changes_nothing_else():
    scaled = at_equal_norm(PROFILE)
    restored = tuple(
        replace(plan, multiplier=before.multiplier, norm_of=before.norm_of)
        for plan, before in zip(scaled.methods, PROFILE.methods, strict=True)
    )
    assert replace(scaled, methods=restored) == PROFILE
    assert at_equal_norm(scaled) == scaled


def test_equal_norm_without_a_mean_difference_is_refused():
    with pytest.raises(DataError, match="profile 'test' has no plan of mean_difference that is no control"):
        at_equal_norm(replace(PROFILE, methods=(RANDOM,)))


def test_the_mean_difference_is_known_by_its_method_whatever_its_plan_is_called():
    renamed = replace(PROFILE, methods=(RANDOM, replace(DIFFERENCE, name="means", method="mean_difference")))
    assert [plan.norm_of for plan in at_equal_norm(renamed).methods] == ["means", ""]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (replace(DELTA, parameters={"topp": 4}), "topp"),
        (replace(RANDOM, metrics=("rollout",)), "unknown metric 'rollout'. Did you mean 'rollouts'?"),
        (MethodPlan("mean", 1.0), "unknown method 'mean'"),
    ],
)
def test_plans_that_could_not_be_measured_are_refused(plan, message):
    with pytest.raises(SteeringError) as caught:
        check_plans(replace(PROFILE, methods=(DIFFERENCE, FEATURES, replace(plan, control="", claimed_layers=()))))
    assert message in str(caught.value)


def test_a_plan_that_reads_saes_where_none_are_named_is_refused():
    check_plans(PROFILE)
    with pytest.raises(DataError, match="method 'delta' reads SAEs: name some with 'saes'"):
        check_plans(replace(PROFILE, saes=""))


def test_equal_norm_with_a_mean_difference_that_is_itself_scaled_is_refused():
    with pytest.raises(DataError) as caught:
        at_equal_norm(replace(PROFILE, methods=(RANDOM, replace(DIFFERENCE, norm_of="random_direction"))))
    assert str(caught.value) == (
        "profile 'test': its plan 'mean_difference' is itself scaled to the norm of 'random_direction', so that "
        "--equal-norm means nothing; leave out the plan's norm_of, or the option"
    )


def test_another_model_leaves_out_the_methods_that_read_the_embedded_saes_and_says_so():
    kept, note = without_foreign_saes(replace(PROFILE, model="other"), PROFILE)
    assert kept.methods == (RANDOM, DIFFERENCE)
    assert (kept.saes, kept.model) == ("", "other")
    assert note == (
        "Not run: delta, other features. The embedded SAEs are for the model 'embedded'; name others with --saes."
    )


def test_plan_runs_without_a_control_that_is_left_out_and_it_is_said():
    controlled = (replace(DIFFERENCE, control="other features"), replace(RANDOM, control="mean_difference"))
    kept, note = without_foreign_saes(replace(PROFILE, model="other", methods=(*controlled, FEATURES)), PROFILE)
    assert kept.methods == (DIFFERENCE, controlled[1])
    assert note == (
        "Not run: other features. Run without a control: mean_difference. The embedded SAEs are for the model "
        "'embedded'; name others with --saes."
    )


def test_plan_that_is_scaled_to_what_is_left_out_is_left_out_too_and_it_is_said():
    scaled = replace(RANDOM, norm_of="other features")
    further = MethodPlan("further", 1.0, "random_direction", norm_of="random_direction")
    controlled = replace(DIFFERENCE, control="further")
    asked = replace(PROFILE, model="other", methods=(further, scaled, controlled, FEATURES))
    kept, note = without_foreign_saes(asked, PROFILE)
    assert kept.methods == (DIFFERENCE,)
    assert note == (
        "Not run: other features. Not run, scaled to the norm of those: further, random_direction. "
        "Run without a control: mean_difference. The embedded SAEs are for the model 'embedded'; name others with "
        "--saes."
    )


def test_profile_of_which_nothing_is_left_is_refused_with_the_remedy():
    asked = replace(PROFILE, model="other", methods=(DELTA, FEATURES))
    with pytest.raises(DataError) as caught:
        without_foreign_saes(asked, PROFILE)
    assert str(caught.value) == (
        "profile 'test': nothing is left to run. Not run: delta, other features. The embedded SAEs are for the model "
        "'embedded'; name others with --saes."
    )


@pytest.mark.parametrize("changes", [{}, {"toward": "negative"}, {"model": "other", "saes": "/my/saes"}])
def test_methods_stay_for_the_profile_s_own_model_and_for_saes_that_were_named(changes):
    asked = replace(PROFILE, **changes)
    assert without_foreign_saes(asked, PROFILE) == (asked, "")


def test_nothing_is_said_where_no_method_reads_saes():
    asked = replace(PROFILE, model="other", methods=(RANDOM, DIFFERENCE))
    kept, note = without_foreign_saes(asked, PROFILE)
    assert (kept.methods, kept.saes, note) == (asked.methods, "", "")


def test_method_that_does_not_exist_is_refused_before_it_is_judged():
    asked = replace(PROFILE, model="other", methods=(DIFFERENCE, MethodPlan("feature_dlta", 1.0)))
    with pytest.raises(UnknownNameError, match="unknown method 'feature_dlta'. Did you mean 'feature_delta'"):
        without_foreign_saes(asked, PROFILE)


def test_vectors_keep_their_signs_at_the_norm_of_a_mean_difference_that_is_turned_round():
    scaled = at_equal_norm(replace(PROFILE, methods=(replace(DIFFERENCE, multiplier=-12.0), RANDOM)))
    assert [plan.multiplier for plan in scaled.methods] == [-12.0, 12.0]
