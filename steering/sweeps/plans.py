"""Changes to a profile's plans that the command line asks for."""

from __future__ import annotations

import math
from dataclasses import replace

from steering.errors import DataError, require_known
from steering.methods import create_method, needs_sae
from steering.metrics import metrics
from steering.profiles import MethodPlan, Profile
from steering.sae.library import EMBEDDED


def check_plans(profile: Profile) -> None:
    """Refuse plans that could not be measured, before anything is computed.

    Raises:
        UnknownNameError: There is no method, parameter or metric of some name.
        DataError: A parameter cannot be used, or a method reads SAEs and the profile names none.
    """
    for plan in profile.methods:
        create_method(plan.method, plan.parameters)
        if needs_sae(plan.method) and not profile.saes:
            raise DataError(f"method {plan.name!r} reads SAEs: name some with 'saes' in the profile or with --saes")
        require_known("metric", plan.metrics or (), metrics)


def mean_plan(profile: Profile) -> MethodPlan:
    """The first of a profile's plans of `mean_difference` that is no control.

    Raises:
        DataError: There is none.
    """
    for plan in profile.methods:
        if plan.method == "mean_difference" and plan.name not in profile.controls:
            return plan
    raise DataError(f"profile {profile.name!r} has no plan of mean_difference that is no control, and needs one here")


def at_equal_norm(profile: Profile) -> Profile:
    """The same profile with every vector scaled to the mean difference's norm at its layer, at the same multiplier.

    Raises:
        DataError: The profile has no plan of the mean difference, or that plan is itself scaled to another's norm.
    """
    reference = mean_plan(profile)
    if reference.norm_of:
        raise DataError(
            f"profile {profile.name!r}: its plan {reference.name!r} is itself scaled to the norm of "
            f"{reference.norm_of!r}, so that --equal-norm means nothing; leave out the plan's norm_of, or the option"
        )
    scaled = at_multiplier(profile, abs(reference.multiplier))
    plans = tuple(
        plan if plan.name == reference.name else replace(plan, norm_of=reference.name) for plan in scaled.methods
    )
    return replace(profile, methods=plans)


def at_multiplier(profile: Profile, multiplier: float) -> Profile:
    """The same profile with another dose of every method; a vector that it turns round is still turned round."""
    plans = (replace(plan, multiplier=math.copysign(1, plan.multiplier) * multiplier) for plan in profile.methods)
    return replace(profile, methods=tuple(plans))


def without_foreign_saes(profile: Profile, declared: Profile) -> tuple[Profile, str]:
    """Leave out the methods that read the embedded SAEs where the model is another than the profile's.

    Plans that are scaled to the norm of one of them are left out, too; a plan whose control is left out runs without.

    Args:
        profile: What is asked for.
        declared: The profile as written, before options changed it.

    Returns:
        What can be run, and sentences about what was left out, or an empty string.

    Raises:
        DataError: Nothing can be run.
    """
    if profile.saes != EMBEDDED or profile.model == declared.model:
        return profile, ""
    reading = {plan.name for plan in profile.methods if needs_sae(plan.method)}
    scaled = _scaled_to(profile, reading)
    kept = [plan for plan in profile.methods if plan.name not in reading | scaled]
    alone = {plan.name for plan in kept if plan.control in reading | scaled}
    parts = (("Not run", reading), ("Not run, scaled to the norm of those", scaled), ("Run without a control", alone))
    left_out = "".join(
        f"{what}: {', '.join(plan.name for plan in profile.methods if plan.name in names)}. "
        for what, names in parts
        if names
    )
    note = f"{left_out}The embedded SAEs are for the model {declared.model!r}; name others with --saes."
    if not kept:
        raise DataError(f"profile {profile.name!r}: nothing is left to run. {note}")
    plans = tuple(replace(plan, control="") if plan.name in alone else plan for plan in kept)
    return replace(profile, methods=plans, saes=""), note if left_out else ""


def _scaled_to(profile: Profile, names: set[str]) -> set[str]:
    """Names of the other plans whose norm is that of one of some plans, directly or by way of others."""
    scaled: set[str] = set()
    while more := {plan.name for plan in profile.methods if plan.norm_of in names | scaled} - scaled - names:
        scaled |= more
    return scaled
