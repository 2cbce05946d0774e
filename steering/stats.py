"""Intervals and tests, thin over scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats
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
    return min(float(low), difference), max(float(high), difference)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over items `[item]`, at 95 % confidence, from a fixed seed."""
    low, high = _bootstrap(values, "two-sided")
    return low, high


def mean_upper_bound(values: np.ndarray) -> float:
    """One-sided 95 % upper bound of a mean over items `[item]`, by the same bootstrap."""
    return _bootstrap(values, "less")[1]


def clustered_interval(values: np.ndarray, clusters: Sequence[object]) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over items that come in clusters, at 95 % confidence, from a fixed seed.

    Whole clusters are drawn, each with all of its items: completions of one prompt say less than as many completions
    of different prompts. With fewer than some twenty clusters the interval is too narrow.

    Args:
        values: `[item]`.
        clusters: `[item]`, what each item belongs to, for instance its prompt.

    Raises:
        SteeringError: There are fewer than two clusters, or not one label an item.
    """
    if len(clusters) != len(_checked(values)):
        raise SteeringError(f"{len(values)} items have {len(clusters)} cluster labels: the numbers must agree")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(clusters))}
    if len(numbers) < 2:
        raise SteeringError("an interval over clusters needs at least two of them")
    members = np.array([numbers[label] for label in clusters])
    interval = stats.bootstrap(
        (np.bincount(members, weights=values), np.bincount(members)),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        confidence_level=CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_BOOTSTRAP_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


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
    """Pairs of 0/1 values `[item]` that succeed only here, and pairs that succeed only in the baseline."""
    if len(successes) != len(baseline):
        raise SteeringError(f"paired test of {len(successes)} against {len(baseline)} items: the numbers must agree")
    here, there = _checked(successes).astype(bool), _checked(baseline).astype(bool)
    return int((here & ~there).sum()), int((there & ~here).sum())


def p_proportion_drop(new: np.ndarray, old: np.ndarray, margin: float = 0.0) -> float:
    """One-sided p value of H0: the new probability is not below the old one by more than a margin.

    The samples are independent, and may be of different size. Without a margin this is Fisher's exact test, which
    keeps its level at any probability; the score test does not, where 200 new items are held against 2,000 old ones
    and most are successes (at .95 it rejects 2.4 times as often as its level of .001 says). With a margin, the
    Agresti-Caffo test must reject too: it is defined at shares of 0 and 1.

    A rise is a drop with the arguments swapped.

    Args:
        new: 0/1 `[item]`.
        old: 0/1 `[old item]`.
        margin: At least 0, as a difference of probabilities.
    """
    counts = int(_checked(new).sum()), len(new), int(_checked(old).sum()), len(old)
    p_value = float(_p_fewer(*counts))
    if margin > 0:
        with np.errstate(divide="ignore", invalid="ignore"):  # it also computes ratios, which may divide by 0
            _, p_margin = test_proportions_2indep(
                *counts,
                value=-margin,
                compare="diff",
                method="agresti-caffo",
                alternative="smaller",
                return_results=False,
            )
        p_value = max(p_value, float(p_margin))
    return p_value


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

    Counting it keeps the p value from being 0 and its level exact (Phipson and Smyth, 2010). A draw that differs from
    the value by rounding alone reaches it: of few pairs, the same value is drawn often, computed in another order.
    """
    reached = null >= value - _ROUNDING * abs(value)
    return float((1 + np.count_nonzero(reached)) / (len(null) + 1))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P values `[test]` adjusted by Holm: rejecting those under alpha errs anywhere with at most that probability."""
    return _adjusted(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float]) -> np.ndarray:
    """P values `[test]` adjusted by Benjamini and Hochberg: at most alpha of the rejected ones are expected wrong."""
    return _adjusted(p_values, "fdr_bh")


def minimum_detectable_difference(
    n: int, share: float, *, alpha: float, power: float = 0.8, cells: int = 1
) -> float | None:
    """Smallest rise above an unsteered share that `p_above_baseline` finds with some probability.

    That is the exact McNemar test, here at level alpha / cells, which the smallest of several p values must reach under
    Holm. The two items of a pair are taken as independent: rollouts from common random numbers agree more often than
    that, and a smaller rise is then enough. The power is summed over all numbers of pairs that differ.

    Args:
        n: Pairs.
        share: Probability of success of the unsteered run.
        alpha: Level, one-sided.
        power: Probability of finding the rise.
        cells: Tests that share the level.

    Returns:
        The rise as a difference of probabilities; None where not even a rise to 1 would be found.
    """
    largest = 1 - share
    if largest <= 0 or _power_of_rise(n, share, largest, alpha / cells) < power:
        return None
    return float(optimize.brentq(lambda rise: _power_of_rise(n, share, rise, alpha / cells) - power, 1e-9, largest))


def power_of_drop(
    share: float, drop: float | np.ndarray, n: int, old_n: int, *, alpha: float, cells: int = 1
) -> np.ndarray:
    """Probability that `p_proportion_drop` without a margin finds a drop, at level alpha / cells; of the drop's shape.

    Summed over what both samples are likely to be. Holm's adjustment gives the smallest of the p values this level, so
    that a drop in one of many cells is found with this probability, and one in several cells with a higher one.

    Args:
        share: Probability of success in the old sample.
        drop: How much lower it is in the new one.
        n: Size of the new sample.
        old_n: Size of the old one.
        alpha: Level, one-sided.
        cells: Tests that share the level.
    """
    chances = _chances_of_alarm(share, n, old_n, alpha / cells)
    new_share = np.clip(share - np.asarray(drop)[..., None], 0, 1)
    return np.asarray(stats.binom.pmf(np.arange(len(chances)), n, new_share) @ chances)


def minimum_detectable_drop(
    share: float, n: int, old_n: int, *, alpha: float, power: float = 0.8, cells: int = 1
) -> float | None:
    """Smallest drop that `power_of_drop` gives the probability `power`; the other arguments are as there.

    Returns:
        The drop as a difference of probabilities; None where not even a drop to 0 would be found.
    """
    chances = _chances_of_alarm(share, n, old_n, alpha / cells)

    def excess(drop: float) -> float:
        return float(stats.binom.pmf(np.arange(len(chances)), n, max(share - drop, 0)) @ chances) - power

    return float(optimize.brentq(excess, 0.0, share)) if excess(share) >= 0 else None


def _power_of_rise(n: int, share: float, rise: float, level: float) -> float:
    """Power of the exact McNemar test where the two of a pair are independent."""
    raised = share + rise
    gain, loss = raised * (1 - share), share * (1 - raised)
    differing = np.arange(n + 1)
    needed = stats.binom.isf(level, differing, 0.5) + 1
    found = stats.binom.sf(needed - 1, differing, gain / (gain + loss))
    return float(stats.binom.pmf(differing, n, gain + loss) @ found)


def _p_fewer(new: np.ndarray | int, n: int, old: np.ndarray | int, old_n: int) -> np.ndarray:
    """Fisher's exact test, one-sided: the probability of as few successes or fewer among the new items."""
    return np.asarray(stats.hypergeom.cdf(new, n + old_n, np.add(new, old), n))


def _chances_of_alarm(share: float, n: int, old_n: int, level: float) -> np.ndarray:
    """Probability over old samples that Fisher's test rejects, for each number of new successes `[number]`.

    It ends where a number has a share above what the old one is likely to be, which is never rejected. Of the old
    sample, the outermost 0.001 % at either end are left out.
    """
    old = np.arange(stats.binom.ppf(1e-5, old_n, share), stats.binom.isf(1e-5, old_n, share) + 1)
    new = np.arange(min(n, int(old[-1] / old_n * n)) + 1)
    rejected = _p_fewer(new[:, None], n, old, old_n) <= level
    return np.asarray(rejected @ stats.binom.pmf(old, old_n, share))


def _adjusted(p_values: Sequence[float], method: str) -> np.ndarray:
    if len(p_values) == 0:
        return np.array([])
    return np.asarray(multipletests(_checked(np.asarray(p_values, dtype=float)), method=method)[1])


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
