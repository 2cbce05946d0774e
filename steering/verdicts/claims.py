"""Whether a cell keeps what its profile claims of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from steering import stats
from steering.errors import DataError
from steering.metrics import Score
from steering.profiles import Profile, SaeBounds
from steering.results import NEUTRAL_CHANGE, SUCCESS
from steering.sae.library import SaeLibrary
from steering.sweeps.cells import Outcome, reads_sae
from steering.sweeps.sae_quality import SaeOutcome

State = Literal["holds", "broken", "no claim"]
# What messages call a profile's keys, where it is something else.
_WORDS = {
    "toward": "side of the concept",
    "neutral": "neutral text",
    "methods": "methods and doses",
    "saes": "SAEs",
    "new_tokens": "length of completions",
    "steered_positions": "steered positions",
    "neutral_budget": "budget",
}


@dataclass(frozen=True)
class ClaimVerdict:
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
    for key in (
        "model",
        "concept",
        "toward",
        "neutral",
        "methods",
        "saes",
        "descriptions",
        "new_tokens",
        "temperature",
        "top_p",
        "steered_positions",
        "split",
        "neutral_budget",
    ):
        if getattr(profile, key) != getattr(declared, key):
            return f"the profile's claims are for its own {_WORDS.get(key, key)}"
    if profile.rollouts < declared.rollouts:
        return f"the profile's claims need {declared.rollouts} rollouts, and {profile.rollouts} were asked for"
    return ""


def without_claims(profile: Profile) -> Profile:
    """The same profile, claiming nothing."""
    plans = tuple(replace(plan, claimed_layers=()) for plan in profile.methods)
    return replace(profile, methods=plans, sae_bounds=SaeBounds())


def check_claims(profile: Profile, library: SaeLibrary) -> None:
    """Refuse claims where there is no SAE that a plan, its control or its norm needs: no test is ever made of them.

    Raises:
        DataError: The message names the plan, the layers, and those that have an SAE.
    """
    for plan in profile.methods:
        idle = sorted(set(plan.claimed_layers) - set(library.layers))
        if idle and reads_sae(profile, plan.name):
            raise DataError(
                f"profile {profile.name!r}: method {plan.name!r} needs SAEs, itself or for its control or norm, and "
                f"claims layers {idle}, for which {library.name!r} has none; it has SAEs for the layers "
                f"{', '.join(map(str, library.layers))}"
            )


def judge(profile: Profile, outcome: Outcome) -> ClaimVerdict:
    """Hold a steered cell against the claim of its profile.

    It steers, more than the unsteered run and more than its control where it has one, by tests whose level alpha all
    claims of the profile share; and the neutral loss change is under the bound. A metric that failed breaks any cell,
    claimed or not; a control that was not measured breaks the claims that need it.
    """
    cell = outcome.cell
    if cell is None:
        raise ValueError("the unsteered run has no claim")
    if outcome.failures:
        return ClaimVerdict("broken", f"{cell.id}: not measured: " + "; ".join(outcome.failures))
    if cell.layer not in profile.plan(cell.method).claimed_layers:
        return ClaimVerdict("no claim", f"{cell.id}: recorded; the profile makes no claim here")
    rollouts = outcome.scores[SUCCESS]
    parts = [_above(profile, rollouts, "the unsteered run", rollouts.p_value)]
    if control := profile.plan(cell.method).control:
        parts.append(_above(profile, rollouts, f"its control {control}", rollouts.p_control))
    parts.append(_bounded(profile, outcome.scores[NEUTRAL_CHANGE]))
    return _verdict(cell.id, parts)


def judge_sae(profile: Profile, outcome: SaeOutcome) -> ClaimVerdict:
    """Hold an SAE's quality against the bounds of its profile: the whole 95 % interval must keep them.

    A failed measurement breaks the claim.
    """
    label, bounds = f"SAE of layer {outcome.layer}", profile.sae_bounds
    if not outcome.scores:
        return ClaimVerdict("broken", f"{label}: not measured: {outcome.rows[0].reason}")
    scores = outcome.scores
    parts = []
    if bounds.variance_explained is not None:
        parts.append(_at_least(scores["sae_variance_explained"], "variance explained", bounds.variance_explained))
    if bounds.loss_recovered is not None:
        parts.append(_at_least(scores["sae_loss_recovered"], "loss recovered", bounds.loss_recovered))
    if bounds.l0 is not None:
        score = scores["sae_l0"]
        holds = score.high <= bounds.l0
        relation = "<=" if holds else ">"
        parts.append((holds, f"L0 {score.value:.1f}, upper end {score.high:.1f} {relation} {bounds.l0:g}"))
    if not parts:
        return ClaimVerdict("no claim", f"{label}: recorded; the profile makes no claim")
    return _verdict(label, parts)


def _verdict(label: str, parts: list[tuple[bool, str]]) -> ClaimVerdict:
    state: State = "holds" if all(holds for holds, _ in parts) else "broken"
    return ClaimVerdict(state, f"{label}: " + "; ".join(message for _, message in parts))


def _at_least(score: Score, name: str, bound: float) -> tuple[bool, str]:
    holds = score.low >= bound
    return holds, f"{name} {score.value:.3f}, lower end {score.low:.3f} {'>=' if holds else '<'} {bound:g}"


def _above(profile: Profile, score: Score, other: str, p_value: float | None) -> tuple[bool, str]:
    if p_value is None:
        return False, f"rollout probability {score.value:.3f} cannot be held against {other}, which was not measured"
    # What passes at this level passes by Holm's method over all claims of the profile, whichever of them are run.
    claims = sum(len(plan.claimed_layers) for plan in profile.methods)
    level = profile.alpha / claims
    holds = p_value < level
    relation = "<" if holds else ">="
    return holds, (
        f"rollout probability {score.value:.3f} {'is' if holds else 'is not'} significantly above {other} "
        f"(p = {p_value:.2g} {relation} {level:.2g}, which is {profile.alpha:g} / {claims}, n = {len(score.items)})"
    )


def _bounded(profile: Profile, score: Score) -> tuple[bool, str]:
    upper = stats.mean_upper_bound(score.items)
    holds = upper < profile.neutral_bound
    return holds, (
        f"neutral loss change {score.value:+.3f}, upper bound {upper:+.3f}, "
        f"{'is' if holds else 'is not'} under {profile.neutral_bound:g} nats per token (n = {len(score.items)})"
    )
