"""How probably the tests of `steering.stats` find an effect, and which effect they find with some probability."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from steering.stats import p_fewer

# The smallest rise that is looked for.
_NEXT_TO_NOTHING = 1e-9


def minimum_detectable_difference(
    n: int, share: float, *, alpha: float, power: float = 0.8, cells: int = 1
) -> float | None:
    """Smallest rise above an unsteered share that `stats.p_more_successes` finds with some probability.

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
        The rise as a difference of probabilities; None where not even a rise to 1 would be found, and 0 where the level
        is so high that a rise is found as often without one.
    """
    largest = 1 - share

    def excess(rise: float) -> float:
        return _power_of_rise(n, share, rise, alpha / cells) - power

    if largest <= 0 or excess(largest) < 0:
        return None
    if excess(_NEXT_TO_NOTHING) >= 0:  # a level so high that the test finds a rise where there is none
        return 0.0
    return float(optimize.brentq(excess, _NEXT_TO_NOTHING, largest))


def power_of_drop(
    share: float, drop: float | np.ndarray, n: int, old_n: int, *, alpha: float, cells: int = 1
) -> np.ndarray:
    """Probability that `stats.p_proportion_drop` without a margin finds a drop; of the drop's shape.

    The level is alpha / cells, which Holm's adjustment gives the smallest of the p values: a drop in one of many cells
    is found with this probability, and one in several with a higher one. The probability is summed over what both
    samples are likely to be.

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
        The drop as a difference of probabilities; None where not even a drop to 0 would be found, and 0 where the level
        is so high that an alarm is as probable without one.
    """
    chances = _chances_of_alarm(share, n, old_n, alpha / cells)

    def excess(drop: float) -> float:
        return float(stats.binom.pmf(np.arange(len(chances)), n, max(share - drop, 0)) @ chances) - power

    if excess(share) < 0:
        return None
    return 0.0 if excess(0.0) >= 0 else float(optimize.brentq(excess, 0.0, share))


def _power_of_rise(n: int, share: float, rise: float, level: float) -> float:
    """Power of the exact McNemar test where the two of a pair are independent."""
    raised = share + rise
    gain, loss = raised * (1 - share), share * (1 - raised)
    differing = np.arange(n + 1)
    needed = stats.binom.isf(level, differing, 0.5) + 1
    found = stats.binom.sf(needed - 1, differing, gain / (gain + loss))
    return float(stats.binom.pmf(differing, n, gain + loss) @ found)


def _chances_of_alarm(share: float, n: int, old_n: int, level: float) -> np.ndarray:
    """Probability over old samples that Fisher's test rejects, for each number of new successes from 0 to n `[number]`.

    Of the old sample, the outermost 0.001 % at either end are left out. What is rejected beside some old sample is
    rejected with fewer new successes, too: the most is looked for by bisection.
    """
    old = np.arange(stats.binom.ppf(1e-5, old_n, share), stats.binom.isf(1e-5, old_n, share) + 1)
    rejected, kept = np.full(len(old), -1), np.full(len(old), n)
    while (kept - rejected > 1).any():
        middle = (rejected + kept) // 2
        rejects = p_fewer(middle, n, old, old_n) <= level
        rejected, kept = np.where(rejects, middle, rejected), np.where(rejects, kept, middle)
    # Beside an old sample, all numbers of new successes up to `rejected`: the chances add up from the highest down.
    most = np.bincount(rejected + 1, stats.binom.pmf(old, old_n, share), minlength=n + 2)
    at_least = most[::-1].cumsum()[::-1]
    return np.asarray(at_least[1:])
