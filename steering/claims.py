"""Whether a cell keeps what its profile claims of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from steering import stats
from steering.metrics import Score
from steering.profiles import Profile
from steering.sweep import Cell, Outcome

State = Literal["holds", "broken", "no claim"]


@dataclass(frozen=True)
class Verdict:
    """The state of a cell's claim, with the numbers behind it.

    Attributes:
        state: "holds", "broken", or "no claim" where the profile makes none.
        message: One line for each part of the claim.
    """

    state: State
    message: str


def waiver(profile: Profile, declared: Profile) -> str:
    """Say why a profile's claims say nothing about this run, or return an empty string where they do.

    Args:
        profile: What is run.
        declared: The profile as written, before options changed it.
    """
    for key in ("model", "concept", "toward", "neutral", "methods", "new_tokens", "temperature", "top_p"):
        if getattr(profile, key) != getattr(declared, key):
            return f"the profile's claims are for {key} as it is written there"
    if profile.rollouts < declared.rollouts:
        return f"the profile's claims need {declared.rollouts} rollouts, and {profile.rollouts} were asked for"
    return ""


def without_claims(profile: Profile) -> Profile:
    """The same profile, claiming nothing."""
    return replace(profile, methods=tuple(replace(plan, claimed_layers=()) for plan in profile.methods))


def judge(profile: Profile, cell: Cell, outcome: Outcome) -> Verdict:
    """Hold a cell against the claim of its profile: steers at level alpha, and damages neutral text within the bound.

    A metric that failed breaks any cell, claimed or not.
    """
    if outcome.failures:
        return Verdict("broken", f"{cell.id}: not measured: " + "; ".join(outcome.failures))
    if cell.layer not in profile.plan(cell.method).claimed_layers:
        return Verdict("no claim", f"{cell.id}: recorded; the profile makes no claim here")
    success, success_message = _steers(profile, outcome.scores["rollout_probability"])
    bounded, bound_message = _bounded(profile, outcome.scores["loss_change_neutral"])
    return Verdict("holds" if success and bounded else "broken", f"{cell.id}: {success_message}; {bound_message}")


def _steers(profile: Profile, score: Score) -> tuple[bool, str]:
    p_value = 1.0 if score.p_value is None else score.p_value
    holds = p_value < profile.alpha
    relation = "<" if holds else ">="
    return holds, (
        f"rollout probability {score.value:.3f} {'is' if holds else 'is not'} significantly above the unsteered run "
        f"(p = {p_value:.2g} {relation} alpha = {profile.alpha:g}, n = {len(score.items)})"
    )


def _bounded(profile: Profile, score: Score) -> tuple[bool, str]:
    upper = stats.mean_upper_bound(score.items)
    holds = upper < profile.neutral_bound
    return holds, (
        f"neutral loss change {score.value:+.3f}, upper bound {upper:+.3f}, "
        f"{'is' if holds else 'is not'} under {profile.neutral_bound:g} nats per token (n = {len(score.items)})"
    )
