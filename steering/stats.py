"""Intervals and tests, thin over scipy and statsmodels."""

from __future__ import annotations

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from steering.errors import NonFiniteError, SteeringError

CONFIDENCE = 0.95
_RESAMPLES = 2000
_BOOTSTRAP_SEED = 0


def proportion_interval(successes: np.ndarray) -> tuple[float, float]:
    """Wilson score interval of a proportion, from 0/1 values `[item]`, at 95 % confidence."""
    share = float(_checked(successes).mean())
    low, high = proportion_confint(int(successes.sum()), len(successes), 1 - CONFIDENCE, method="wilson")
    return min(float(low), share), max(float(high), share)  # at shares of 0 and 1 the formula rounds past the share


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over items `[item]`, at 95 % confidence, from a fixed seed."""
    low, high = _bootstrap(values, "two-sided")
    return low, high


def mean_upper_bound(values: np.ndarray) -> float:
    """One-sided 95 % upper bound of a mean over items `[item]`, by the same bootstrap."""
    return _bootstrap(values, "less")[1]


def p_above_baseline(successes: np.ndarray, baseline: np.ndarray) -> float:
    """Exact one-sided McNemar test that successes are more probable than in the paired baseline.

    Args:
        successes: 0/1 `[item]`.
        baseline: 0/1 `[item]`, item by item from the same random numbers.

    Returns:
        The p value: of the pairs that differ, the probability that as many or more are gains, if gains and losses were
        equally probable.

    Raises:
        SteeringError: The two are not of one length.
    """
    gained, lost = discordant(successes, baseline)
    if gained + lost == 0:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue)


def discordant(successes: np.ndarray, baseline: np.ndarray) -> tuple[int, int]:
    """Pairs that succeed only here, and pairs that succeed only in the baseline."""
    if len(successes) != len(baseline):
        raise SteeringError(f"paired test of {len(successes)} against {len(baseline)} items: the numbers must agree")
    here, there = _checked(successes).astype(bool), _checked(baseline).astype(bool)
    return int((here & ~there).sum()), int((there & ~here).sum())


def _bootstrap(values: np.ndarray, alternative: str) -> tuple[float, float]:
    values = _checked(values)
    if np.ptp(values) == 0:  # also a single item: the bootstrap has nothing to resample
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=_RESAMPLES,
        alternative=alternative,
        method="percentile",
        rng=np.random.default_rng(_BOOTSTRAP_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _checked(values: np.ndarray) -> np.ndarray:
    if len(values) == 0:
        raise SteeringError("a statistic of no items is not defined")
    if not np.isfinite(values).all():
        raise NonFiniteError("a statistic of NaN or infinite items is not defined")
    return values
