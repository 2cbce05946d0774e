"""Intervals and the paired test against worked examples, sums by hand and simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm

from steering import stats
from steering.errors import NonFiniteError, SteeringError

values = st.lists(st.floats(-1000, 1000, allow_subnormal=False), min_size=1, max_size=30).map(np.array)
pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60).map(
    lambda p: np.array(p, dtype=float)
)


def ones(successes: int, count: int) -> np.ndarray:
    return np.array([1.0] * successes + [0.0] * (count - successes))


def paired(gained: int, lost: int, both: int = 0, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    here = [1] * gained + [0] * lost + [1] * both + [0] * neither
    there = [0] * gained + [1] * lost + [1] * both + [0] * neither
    return np.array(here, dtype=float), np.array(there, dtype=float)


def upper_tail(least: int, count: int) -> Fraction:
    """Probability of `least` heads or more among `count` fair coins."""
    return Fraction(sum(math.comb(count, heads) for heads in range(least, count + 1)), 2**count)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(10, 20, 0.2993, 0.7007), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 100, 0.0018, 0.0545)],
)
def test_proportion_interval_of_worked_examples(successes, count, low, high):
    assert stats.proportion_interval(ones(successes, count)) == pytest.approx((low, high), abs=5e-5)


@given(count=st.integers(1, 3000), share=st.floats(0, 1))
def test_proportion_interval_is_wilson_s(count, share):
    successes = round(share * count)
    z, p = norm.ppf(0.975), successes / count
    centre = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    expected = (centre - half, centre + half)
    found = stats.proportion_interval(ones(successes, count))
    assert found == pytest.approx(expected, abs=1e-9)
    assert found[0] <= p <= found[1]


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [(8, 2, 56 / 1024), (5, 0, 1 / 32), (0, 5, 1.0), (1, 1, 0.75), (1, 0, 0.5), (10, 5, 4944 / 32768)],
)
def test_p_value_of_worked_examples(gained, lost, expected):
    assert stats.p_more_successes(*paired(gained, lost, both=7, neither=11)) == pytest.approx(expected, rel=1e-12)


@given(pairs)
def test_p_value_is_the_binomial_tail_of_the_pairs_that_differ(items):
    gained = sum(1 for here, there in items if here > there)
    lost = sum(1 for here, there in items if here < there)
    assert stats.discordant(items[:, 0], items[:, 1]) == (gained, lost)
    expected = upper_tail(gained, gained + lost)
    assert stats.p_more_successes(items[:, 0], items[:, 1]) == pytest.approx(float(expected), rel=1e-9)


@given(gained=st.integers(0, 40), lost=st.integers(0, 40))
def test_p_values_of_both_directions_overlap_in_the_observed_split(gained, lost):
    here, there = paired(gained, lost, both=3, neither=3)
    observed = math.comb(gained + lost, gained) / 2 ** (gained + lost)
    both_ways = stats.p_more_successes(here, there) + stats.p_more_successes(there, here)
    assert both_ways == pytest.approx(1 + observed, rel=1e-9)


@pytest.mark.parametrize("items", [np.zeros(9), np.ones(9), ones(4, 9), np.ones(1)])
def test_p_value_without_a_pair_that_differs_is_1(items):
    assert stats.p_more_successes(items, items.copy()) == 1.0


def test_p_value_of_equal_probabilities_is_conservative_and_of_higher_ones_small():
    generator = np.random.default_rng(20)
    repetitions = 1500

    def rejected(probability: float) -> float:
        baseline = generator.random((repetitions, 80)) < 0.3
        steered = generator.random((repetitions, 80)) < probability
        rows = zip(steered.astype(float), baseline.astype(float), strict=True)
        return float(np.mean([stats.p_more_successes(here, there) < 0.05 for here, there in rows]))

    by_chance = rejected(0.3)
    assert 0.01 < by_chance <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)
    assert rejected(0.6) > 0.9
    assert rejected(0.15) < 0.005


def test_pairs_of_unequal_number_are_refused():
    for measure in (stats.p_more_successes, stats.discordant):
        with pytest.raises(SteeringError, match="3 against 2 items"):
            measure(np.ones(3), np.ones(2))


@pytest.mark.parametrize("measure", [stats.proportion_interval, stats.mean_interval, stats.mean_upper_bound])
def test_a_statistic_of_nothing_is_refused(measure):
    with pytest.raises(SteeringError, match="no items"):
        measure(np.array([]))
    with pytest.raises(SteeringError, match="no items"):
        stats.p_more_successes(np.array([]), np.array([]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("measure", [stats.proportion_interval, stats.mean_interval, stats.mean_upper_bound])
def test_items_that_are_not_finite_are_refused(measure, wrong):
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        measure(np.array([1.0, wrong, 0.0]))
    for sides in (([1.0, wrong], [0.0, 1.0]), ([0.0, 1.0], [1.0, wrong])):
        with pytest.raises(NonFiniteError, match="NaN or infinite"):
            stats.p_more_successes(*map(np.array, sides))


@given(values)
def test_mean_interval_contains_the_mean_and_lies_within_the_items(items):
    low, high = stats.mean_interval(items)
    slack = 1e-9 * (1 + np.abs(items).max())
    assert items.min() - slack <= low <= items.mean() + slack
    assert items.mean() - slack <= high <= items.max() + slack


@given(base=st.floats(-10, 10, allow_subnormal=False), n=st.integers(1, 300), raised=st.floats(0, 1))
def test_mean_interval_contains_the_mean_of_items_that_are_equal_but_for_rounding(base, n, raised):
    items = np.full(n, base)
    items[: round(raised * n)] = np.nextafter(base, 11)
    low, high = stats.mean_interval(items)
    assert low <= items.mean() <= high


@given(values)
def test_mean_upper_bound_lies_between_the_mean_and_the_two_sided_end(items):
    assume(len(items) > 1)
    upper = stats.mean_upper_bound(items)
    _, high = stats.mean_interval(items)
    slack = 1e-9 * (1 + np.abs(items).max())
    assert items.mean() - slack <= upper <= high + slack


@pytest.mark.parametrize("items", [[0.1] * 7, [-3.0], [0.0, 0.0], [1e-300] * 3])
def test_constant_items_have_an_interval_without_width(items):
    assert stats.mean_interval(np.array(items)) == pytest.approx((items[0], items[0]), rel=1e-15, abs=0)
    assert stats.mean_upper_bound(np.array(items)) == (items[0] if len(items) > 1 else math.inf)


def test_intervals_of_a_mean_are_the_quantiles_of_resampled_means():
    generator = np.random.default_rng(3)
    items = generator.exponential(2.0, 60)
    means = items[generator.integers(0, 60, (40_000, 60))].mean(axis=1)
    tolerance = 0.12 * means.std()
    assert stats.mean_interval(items) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=tolerance)
    assert stats.mean_upper_bound(items) == pytest.approx(np.quantile(means, 0.95), abs=tolerance)


def test_intervals_of_a_mean_are_the_same_each_time():
    items = np.random.default_rng(0).normal(size=40)
    first = stats.mean_interval(items), stats.mean_upper_bound(items)
    assert (stats.mean_interval(items), stats.mean_upper_bound(items)) == first


def test_intervals_of_a_mean_cover_it_as_often_as_they_say():
    samples = np.random.default_rng(7).normal(2.0, 3.0, (400, 50))
    intervals = np.array([stats.mean_interval(items) for items in samples])
    covered = ((intervals[:, 0] <= 2.0) & (intervals[:, 1] >= 2.0)).mean()
    bounded = np.mean([stats.mean_upper_bound(items) >= 2.0 for items in samples])
    # 400 repetitions: two standard errors are 0.022, and the percentile method falls a little short at n = 50.
    assert 0.91 <= covered <= 0.975
    assert 0.91 <= bounded <= 0.975


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=20))
def test_ratio_items_have_the_ratio_of_the_sums_as_their_mean(pairs):
    numerators, denominators = np.array(pairs).T
    found = stats.ratio_items(numerators, denominators)
    assert found.mean() == pytest.approx(numerators.sum() / denominators.sum(), abs=1e-9)
    np.testing.assert_allclose(stats.ratio_items(3 * denominators, denominators), 3)


@pytest.mark.parametrize("related", [False, True])
def test_interval_of_a_ratio_is_that_of_the_resampled_ratio_and_covers_it(related):
    """Whether the error follows the variance or not, which shares of a fixed total would not tell apart."""
    generator = np.random.default_rng(12)
    variances = generator.exponential(1.0, (300, 200)) + 0.2
    errors = 0.2 * (variances if related else 1.2) * generator.uniform(0.5, 1.5, (300, 200))
    intervals = np.array(
        [stats.mean_interval(stats.ratio_items(*pair)) for pair in zip(errors, variances, strict=True)]
    )
    covered = ((intervals[:, 0] <= 0.2) & (intervals[:, 1] >= 0.2)).mean()
    assert 0.91 <= covered <= 0.98
    picks = generator.integers(0, 200, (4000, 200))
    ratios = errors[0][picks].sum(axis=1) / variances[0][picks].sum(axis=1)
    # What the ratio is skewed by, the linearisation leaves out: of 200 items, a quarter of a standard deviation.
    assert intervals[0] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.3 * ratios.std())
