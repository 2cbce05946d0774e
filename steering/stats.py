"""Intervals and tests, thin over scipy and statsmodels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, test_proportions_2indep

from steering.errors import NonFiniteError, SteeringError

CONFIDENCE = 0.95
_RESAMPLES = 2000
_BOOTSTRAP_SEED = 0
#: Share of a value by which two that are equal may differ, where they are computed in another order.
_ROUNDING = 1e-9


def proportion_interval(successes: np.ndarray) -> tuple[float, float]:
    """Wilson score interval of a proportion, from 0/1 values `[item]`, at 95 % confidence."""
    share = float(_checked(successes).mean())
    low, high = proportion_confint(int(successes.sum()), len(successes), 1 - CONFIDENCE, method="wilson")
    return min(float(low), share), max(float(high), share)  # at shares of 0 and 1 the formula rounds past the share


def difference_interval(successes: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Newcombe's interval of the difference of two independent proportions, at 95 % confidence.

    Args:
        successes: 0/1 `[item]`.
        other: 0/1 `[other item]`, whose share is subtracted.
    """
    difference = float(_checked(successes).mean() - _checked(other).mean())
    counts = int(successes.sum()), len(successes), int(other.sum()), len(other)
    low, high = confint_proportions_2indep(*counts, compare="diff", method="newcomb", alpha=1 - CONFIDENCE)
    return max(-1.0, min(float(low), difference)), min(1.0, max(float(high), difference))  # rounding apart


def paired_difference_interval(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Interval of the difference of two shares that were observed in pairs, at 95 % confidence.

    Method 10 of Newcombe (1998, Statistics in Medicine 17: 2635-2650), from the Wilson intervals of both and their
    correlation. Where no pair differs it has a width all the same, unlike a bootstrap of the differences.

    Args:
        values: 0/1 `[item]`.
        others: 0/1 `[item]`, subtracted, item by item the same.

    Raises:
        SteeringError: The two are not of one length.
    """
    gained, lost = discordant(values, others)
    share, other_share = float(np.mean(values)), float(np.mean(others))
    (low, high), (other_low, other_high) = proportion_interval(values), proportion_interval(others)
    correlation = _correlation(int(np.sum(values)) - gained, gained, lost, len(values))

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))

    difference = share - other_share
    below, above = reach(share - low, other_high - other_share), reach(high - share, other_share - other_low)
    return difference - below, difference + above


def _correlation(both: int, gained: int, lost: int, n: int) -> float:
    """Of two 0/1 items in pairs, a positive one with Newcombe's correction for continuity."""
    neither = n - both - gained - lost
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    excess = both * neither - gained * lost
    corrected = max(excess - n / 2, 0.0) if excess > 0 else excess
    return corrected / math.sqrt(margins) if margins else 0.0


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over items `[item]`, at 95 % confidence, from a fixed seed."""
    low, high = _bootstrap(values, "two-sided")
    mean = float(values.mean())
    return min(low, mean), max(high, mean)  # of items that differ by rounding alone, quantiles round past the mean


def mean_upper_bound(values: np.ndarray) -> float:
    """One-sided 95 % upper bound of a mean over items `[item]`, by the same bootstrap; infinite for a single item."""
    return math.inf if len(_checked(values)) == 1 else _bootstrap(values, "less")[1]


def ratio_items(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Items `[item]` whose mean is the ratio R of two sums, and whose spread is that of the ratio.

    They are R + (y − R x) / mean x, the ratio linearised (Cochran 1977, Sampling Techniques, chapter 6): an interval of
    their mean is one of the ratio, in which numerators and denominators vary together.

    Args:
        numerators: y, `[item]`.
        denominators: x, `[item]`; their sum is not 0.
    """
    ratio = float(np.sum(numerators) / np.sum(denominators))
    return np.asarray(ratio + (numerators - ratio * denominators) / np.mean(denominators))


def p_more_successes(successes: np.ndarray, others: np.ndarray) -> float:
    """Exact one-sided McNemar test that successes are more probable than those that they are paired with.

    Args:
        successes: 0/1 `[item]`.
        others: 0/1 `[item]`, item by item from the same random numbers, or of the same thing.

    Returns:
        The p value: of the pairs that differ, the probability that as many or more are gains, if gains and losses were
        equally probable.

    Raises:
        SteeringError: The two are not of one length.
    """
    gained, lost = discordant(successes, others)
    if gained + lost == 0:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue)


def discordant(successes: np.ndarray, others: np.ndarray) -> tuple[int, int]:
    """Pairs of 0/1 values `[item]` that succeed only here, and pairs that succeed only there."""
    if len(successes) != len(others):
        raise SteeringError(f"paired test of {len(successes)} against {len(others)} items: the numbers must agree")
    succeeded, others_succeeded = _checked(successes).astype(bool), _checked(others).astype(bool)
    return int((succeeded & ~others_succeeded).sum()), int((others_succeeded & ~succeeded).sum())


def p_proportion_drop(new: np.ndarray, old: np.ndarray, margin: float = 0.0) -> float:
    """One-sided p value of H0: the new probability is not below the old one by more than a margin.

    The samples are independent, and may be of different size. Without a margin this is Fisher's exact test, which
    keeps its level at any probability. With a margin, the Agresti-Caffo test and the score test must reject too: of 200
    new items against 2,000 old ones, either of them alone rejects two to three times as often as a level of .001 says,
    the one where few succeed, the other where most do; together they keep it.

    A rise is a drop with the arguments swapped.

    Args:
        new: 0/1 `[item]`.
        old: 0/1 `[old item]`.
        margin: At least 0, as a difference of probabilities.
    """
    counts = int(_checked(new).sum()), len(new), int(_checked(old).sum()), len(old)
    p_value = float(p_fewer(*counts))
    if margin > 0:
        with np.errstate(divide="ignore", invalid="ignore"):  # it also computes ratios, which may divide by 0
            _, p_agresti = test_proportions_2indep(
                *counts,
                value=-margin,
                compare="diff",
                method="agresti-caffo",
                alternative="smaller",
                return_results=False,
            )
        p_value = max(p_value, float(p_agresti), _p_score(*counts, margin))
    return p_value


def _p_score(new: int, n: int, old: int, old_n: int, margin: float) -> float:
    """Score test of a drop beyond a margin, above 0 and below 1 (Farrington and Manning, 1990).

    statsmodels has it in closed form, which is NaN for one in twenty outcomes of 200 against 2,000 items, and elsewhere
    off by up to .09.
    """

    def unlikelihood(share: float) -> float:
        found = xlogy(new, share - margin) + xlogy(n - new, 1 - share + margin)
        return -float(found + xlogy(old, share) + xlogy(old_n - old, 1 - share))

    share = minimize_scalar(unlikelihood, bounds=(margin, 1), method="bounded", options={"xatol": 1e-10}).x
    variance = (share - margin) * (1 - share + margin) / n + share * (1 - share) / old_n
    return float(stats.norm.cdf((new / n - old / old_n + margin) / np.sqrt(variance)))


def p_mean_rise(changes: np.ndarray, margin: float = 0.0) -> float:
    """One-sided paired t test of H0: the mean change is at most a margin.

    Args:
        changes: `[item]`, new minus old of the same items.
        margin: In the unit of the changes.

    Returns:
        The p value. Changes that are all equal have no spread to test by: 0 where they exceed the margin, 1 otherwise.
        A single item shows nothing: 1.
    """
    excess = _checked(changes) - margin
    if len(excess) < 2:
        return 1.0
    if np.ptp(excess) <= 1e-12 * np.abs(changes).max():
        return 0.0 if excess.mean() > 0 else 1.0
    return float(stats.ttest_1samp(excess, 0.0, alternative="greater").pvalue)


def empirical_p(value: float, null: np.ndarray) -> float:
    """Share of draws under the null hypothesis `[draw]` that reach a value, the value itself counted among them.

    Counting it keeps the p value from being 0, and its level exact where the value is exchangeable with the draws under
    the null hypothesis (Phipson and Smyth, 2010). A draw that differs from the value by rounding alone reaches it: of
    few pairs, the same value is drawn often, computed in another order.
    """
    draws = _checked(np.append(null, value))
    return float(np.count_nonzero(draws >= value - _ROUNDING * abs(value)) / len(draws))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P values `[test]` adjusted by Holm: rejecting those under alpha errs anywhere with at most that probability."""
    if len(p_values) == 0:
        return np.array([])
    return np.asarray(multipletests(_checked(np.asarray(p_values, dtype=float)), method="holm")[1])


def p_fewer(new: np.ndarray | int, n: int, old: np.ndarray | int, old_n: int) -> np.ndarray:
    """Fisher's exact test, one-sided: the probability of as few successes or fewer among the new items.

    Args:
        new: Number of new successes, or several.
        n: New items.
        old: Number of old successes, or several; broadcast with `new`.
        old_n: Old items.
    """
    return np.asarray(stats.hypergeom.cdf(new, n + old_n, np.add(new, old), n))


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
