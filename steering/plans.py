"""Changes to a profile's plans that the command line asks for."""

from __future__ import annotations

from dataclasses import replace

from steering.errors import DataError
from steering.methods import methods, needs_sae
from steering.profiles import Profile

_REFERENCE = "mean_difference"
_EMBEDDED = "embedded"


def at_equal_norm(profile: Profile) -> Profile:
    """The same profile with every vector scaled to the mean difference's norm at its layer, at the same multiplier.

    Raises:
        DataError: The profile has no plan called mean_difference.
    """
    reference = next((plan for plan in profile.methods if plan.name == _REFERENCE), None)
    if reference is None:
        raise DataError(f"profile {profile.name!r} has no plan {_REFERENCE!r}, to whose norm vectors could be scaled")
    scaled = tuple(
        plan if plan is reference else replace(plan, multiplier=reference.multiplier, norm_of=_REFERENCE)
        for plan in profile.methods
    )
    return replace(profile, methods=scaled)


def without_foreign_saes(profile: Profile, declared: Profile) -> tuple[Profile, str]:
    """Leave out the methods that read the embedded SAEs where the model is another than the profile's.

    Args:
        profile: What is asked for.
        declared: The profile as written, before options changed it.

    Returns:
        What can be run, and a sentence about what was left out, or an empty one.
    """
    if profile.saes != _EMBEDDED or profile.model == declared.model:
        return profile, ""
    kept = tuple(plan for plan in profile.methods if not needs_sae(methods[plan.method]))
    left_out = ", ".join(plan.name for plan in profile.methods if plan not in kept)
    note = f"Not run: {left_out}. The embedded SAEs are for the model {declared.model!r}; name others with --saes."
    return replace(profile, methods=kept, saes=""), note if left_out else ""
