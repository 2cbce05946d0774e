"""Changes to a profile's plans that the command line asks for."""

from __future__ import annotations

import math
from dataclasses import replace

from steering.errors import DataError
from steering.methods import methods, needs_sae
from steering.profiles import Profile

_REFERENCE = "mean_difference"
_EMBEDDED = "embedded"


def at_equal_norm(profile: Profile) -> Profile:
    """The same profile with every vector scaled to the mean difference's norm at its layer, at the same multiplier.

    Raises:
        DataError: The profile has no plan called mean_difference, or that plan is itself scaled to another's norm.
    """
    reference = next((plan for plan in profile.methods if plan.name == _REFERENCE), None)
    if reference is None:
        raise DataError(f"profile {profile.name!r} has no plan {_REFERENCE!r}, to whose norm vectors could be scaled")
    if reference.norm_of:
        raise DataError(
            f"profile {profile.name!r}: its plan {_REFERENCE!r} is itself scaled to the norm of {reference.norm_of!r}, "
            "so that --equal-norm means nothing; leave out the plan's norm_of, or the option"
        )
    scaled = at_multiplier(profile, abs(reference.multiplier))
    plans = tuple(plan if plan.name == _REFERENCE else replace(plan, norm_of=_REFERENCE) for plan in scaled.methods)
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
    if profile.saes != _EMBEDDED or profile.model == declared.model:
        return profile, ""
    reading = {plan.name for plan in profile.methods if needs_sae(methods[plan.method])}
    scaled = _scaled_to(profile, reading)
    kept = [plan for plan in profile.methods if plan.name not in reading | scaled]
    alone = {plan.name for plan in kept if plan.control in reading | scaled}
    parts = (("Not run", reading), ("Not run, scaled to the norm of those", scaled), ("Run without a control", alone))
    told = "".join(
        f"{what}: {', '.join(plan.name for plan in profile.methods if plan.name in names)}. "
        for what, names in parts
        if names
    )
    note = f"{told}The embedded SAEs are for the model {declared.model!r}; name others with --saes."
    if not kept:
        raise DataError(f"profile {profile.name!r}: nothing is left to run. {note}")
    plans = tuple(replace(plan, control="") if plan.name in alone else plan for plan in kept)
    return replace(profile, methods=plans, saes=""), note if told else ""


def _scaled_to(profile: Profile, names: set[str]) -> set[str]:
    """Names of the other plans whose norm is that of one of some plans, directly or by way of others."""
    scaled: set[str] = set()
    while more := {plan.name for plan in profile.methods if plan.norm_of in names | scaled} - scaled - names:
        scaled |= more
    return scaled
