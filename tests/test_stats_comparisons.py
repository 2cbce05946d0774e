"""Tests that compare two samples, and their adjustment, against published examples, exact sums and simulation."""

from __future__ import annotations

import gc
import math
import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, fisher_exact, norm
from statsmodels.stats import proportion

from steering import stats
from steering.errors import NonFiniteError, SteeringError
from steering.power import power_of_drop
from tests.test_stats import ones, paired

# Student (1908): additional hours of sleep, one drug against the other.
SLEEP = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@pytest.fixture(autouse=True)
def no_warnings(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels collects garbage at each adjustment: 0.2 s
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("here", "there", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_difference_interval_of_newcombe_s_own_examples(here, there, low, high):
    assert stats.difference_interval(ones(*here), ones(*there)) == pytest.approx((low, high), abs=5e-5)


@given(here=st.integers(0, 40), there=st.integers(0, 300))
@example(here=0, there=300)
def test_difference_interval_holds_the_difference_and_turns_with_its_sides(here, there):
    first, second = ones(here, 40), ones(there, 300)
    low, high = stats.difference_interval(first, second)
    assert -1 <= low <= first.mean() - second.mean() <= high <= 1
    assert stats.difference_interval(second, first) == pytest.approx((-high, -low), abs=1e-12)


def test_difference_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(4)
    for old, new in ((0.05, 0.05), (0.5, 0.35), (0.95, 0.9)):
        counts = zip(generator.binomial(200, new, 800), generator.binomial(500, old, 800), strict=True)
        intervals = np.array([stats.difference_interval(ones(x, 200), ones(y, 500)) for x, y in counts])
        covered = ((intervals[:, 0] <= new - old) & (new - old <= intervals[:, 1])).mean()
        assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 800) <= covered <= 0.985


def test_drop_of_fisher_s_tea_tasting():
    assert stats.p_proportion_drop(ones(1, 4), ones(3, 4)) == pytest.approx(17 / 70, rel=1e-12)


@given(new=st.integers(0, 30), old=st.integers(0, 90))
def test_drop_without_a_margin_is_fisher_s_exact_test(new, old):
    expected = fisher_exact([[new, 30 - new], [old, 90 - old]], alternative="less").pvalue
    assert stats.p_proportion_drop(ones(new, 30), ones(old, 90)) == pytest.approx(expected, rel=1e-9)
    mirrored = stats.p_proportion_drop(1 - ones(old, 90), 1 - ones(new, 30))
    assert mirrored == pytest.approx(expected, rel=1e-9), "a drop of successes is a rise of failures"


@pytest.mark.parametrize(("new", "old", "margin"), [(60, 1000, 0.05), (150, 1900, 0.1), (0, 400, 0.02), (3, 100, 0.05)])
def test_drop_by_more_than_a_margin_is_the_largest_of_three_p_values(new, old, margin):
    here, there = (new + 1) / 202, (old + 1) / 2002
    error = math.sqrt(here * (1 - here) / 202 + there * (1 - there) / 2002)
    expected = norm.cdf((here - there + margin) / error)
    exact = fisher_exact([[new, 200 - new], [old, 2000 - old]], alternative="less").pvalue
    found = stats.p_proportion_drop(ones(new, 200), ones(old, 2000), margin)
    # Of the old items, that of the new ones lower by the margin: where the likelihood's slope is 0.
    share = brentq(
        lambda p: new / (p - margin) - (200 - new) / (1 - p + margin) + old / p - (2000 - old) / (1 - p),
        margin + 1e-12, 1 - 1e-12, xtol=1e-15,
    )  # fmt: skip
    error = math.sqrt((share - margin) * (1 - share + margin) / 200 + share * (1 - share) / 2000)
    score = norm.cdf((new / 200 - old / 2000 + margin) / error)
    closed = max(expected, exact)
    assert found == pytest.approx(max(closed, score), rel=1e-9 if closed > score else 1e-8)  # that of a minimum


@pytest.mark.parametrize(("share", "margin"), [(0.05, 0.02), (0.1, 0.05), (0.5, 0.05), (0.95, 0.02)])
def test_drop_of_just_the_margin_is_found_no_more_often_than_the_level_says(share, margin):
    """Over the outcomes of 60 new and 300 old items that are not far from what is expected."""
    chances = [
        (new, old, binom.pmf(new, 60, share - margin) * binom.pmf(old, 300, share))
        for new, old in product(range(61), range(301))
    ]
    likely = [(new, old, chance) for new, old, chance in chances if chance > 1e-9]
    rejected = [
        chance for new, old, chance in likely if stats.p_proportion_drop(ones(new, 60), ones(old, 300), margin) <= 0.01
    ]
    assert sum(rejected) <= 0.01


@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize(("new", "old", "expected"), [(0, 0, 1.0), (8, 40, 1.0), (8, 0, 1.0), (0, 40, 0.0)])
def test_drop_is_defined_where_all_or_none_succeed(new, old, expected, margin):
    assert stats.p_proportion_drop(ones(new, 8), ones(old, 40), margin) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.95, 0.98])
def test_drop_errs_no_more_often_than_its_level_at_any_share(share):
    """Summed over all 13 × 61 outcomes; the asymptotic score test exceeds its level at high shares."""
    outcomes = list(product(range(13), range(61)))
    p_values = np.array([stats.p_proportion_drop(ones(new, 12), ones(old, 60)) for new, old in outcomes])
    weights = np.array([binom.pmf(new, 12, share) * binom.pmf(old, 60, share) for new, old in outcomes])
    for level in (0.001, 0.01, 0.05, 0.2):
        assert weights[p_values <= level].sum() <= level


def test_score_test_rejects_too_often_where_most_succeed_and_fisher_s_does_not():
    """Why the drop is tested as it is: summed over all outcomes of 200 new and 2,000 old items at .95."""
    new, old = np.arange(201)[:, None], np.arange(2001)
    pooled = (new + old) / 2200
    with np.errstate(divide="ignore", invalid="ignore"):  # where all or none succeed
        z = (new / 200 - old / 2000) / np.sqrt(pooled * (1 - pooled) * (1 / 200 + 1 / 2000) * 2200 / 2199)
    score = np.nan_to_num(norm.cdf(z), nan=1.0)
    theirs = proportion.test_proportions_2indep(
        80, 200, 1000, 2000, compare="diff", method="score", alternative="smaller"
    )
    assert score[80, 1000] == pytest.approx(theirs.pvalue, rel=1e-9)
    weights = binom.pmf(new, 200, 0.95) * binom.pmf(old, 2000, 0.95)
    assert weights[score <= 0.001].sum() == pytest.approx(0.0024, abs=0.00005)
    assert power_of_drop(0.95, 0.0, 200, 2000, alpha=0.001) < 0.001


def test_mean_rise_of_student_s_sleep_data():
    assert stats.p_mean_rise(SLEEP) == pytest.approx(0.0014165, abs=5e-7)
    assert stats.p_mean_rise(-SLEEP) == pytest.approx(1 - 0.0014165, abs=5e-7)
    assert stats.p_mean_rise(SLEEP, SLEEP.mean()) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "margin", "expected"),
    [
        ([0.0] * 5, 0.0, 1.0),
        ([0.02] * 5, 0.01, 0.0),
        ([0.01] * 5, 0.01, 1.0),
        ([-3.0] * 2, 0.0, 1.0),
        ([0.1, 0.1 + 1e-16, 0.1 - 1e-16], 0.01, 0.0),
        ([5.0], 0.01, 1.0),
    ],
)
def test_changes_without_spread_give_0_or_1(changes, margin, expected):
    assert stats.p_mean_rise(np.array(changes), margin) == expected


def test_mean_rise_errs_as_often_as_its_level_at_the_margin_and_seldom_below():
    changes = np.random.default_rng(8).normal(0.01, 0.05, (1000, 50))
    at_margin = np.mean([stats.p_mean_rise(items, 0.01) < 0.05 for items in changes])
    assert abs(at_margin - 0.05) <= 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert np.mean([stats.p_mean_rise(items - 0.01, 0.01) < 0.05 for items in changes]) < 0.01
    assert np.mean([stats.p_mean_rise(items + 0.03, 0.01) < 0.05 for items in changes]) > 0.95


def test_empirical_p_counts_the_value_itself_among_the_draws():
    null = np.array([0.1, 0.2, 0.3, 0.3])
    assert stats.empirical_p(0.3, null) == 3 / 5
    assert stats.empirical_p(0.4, null) == 1 / 5
    assert stats.empirical_p(0.0, null) == 1.0
    assert stats.empirical_p(0.0, np.array([])) == 1.0
    for value in (0.3, -0.3):
        assert stats.empirical_p(value, np.array([value - 1e-14, value + 1e-14, value - 1e-3])) == 3 / 4


@pytest.mark.parametrize(("value", "null"), [(math.nan, [0.1]), (math.inf, [0.1]), (0.1, [0.2, math.nan])])
def test_empirical_p_of_nan_is_refused(value, null):
    with pytest.raises(NonFiniteError):
        stats.empirical_p(value, np.array(null))


def test_empirical_p_of_a_further_draw_is_uniform():
    draws = np.random.default_rng(5).normal(size=(2000, 20))
    p_values = np.array([stats.empirical_p(row[0], row[1:]) for row in draws])
    for level in (0.05, 0.25, 0.5):
        assert abs((p_values <= level).mean() - level) <= 3 * math.sqrt(level * (1 - level) / 2000)


def test_holm_of_a_worked_example():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_lists)
def test_adjusted_p_values_by_their_definitions(p_values):
    count, order = len(p_values), np.argsort(p_values, kind="stable")
    ordered = np.array(p_values)[order]
    down = np.maximum.accumulate([min(1.0, (count - i) * p) for i, p in enumerate(ordered)])
    assert stats.holm(p_values)[order] == pytest.approx(down)


def test_adjusting_no_p_values_gives_none_and_nan_is_refused():
    assert stats.holm([]).shape == (0,)
    with pytest.raises(NonFiniteError):
        stats.holm([0.1, math.nan])


@pytest.mark.parametrize("test", [stats.p_proportion_drop, stats.difference_interval])
def test_comparisons_of_nothing_and_of_nan_are_refused(test):
    for empty in ((np.array([]), ones(1, 2)), (ones(1, 2), np.array([]))):
        with pytest.raises(SteeringError, match="no items"):
            test(*empty)
    for wrong in ((np.array([math.nan]), ones(1, 2)), (ones(1, 2), np.array([math.inf]))):
        with pytest.raises(NonFiniteError):
            test(*wrong)


def test_paired_interval_of_a_published_example():
    # Bentur et al. 2009, in Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33: 2850): Newcombe's interval.
    found = stats.paired_difference_interval(*paired(gained=1, lost=7, both=1, neither=12))
    assert found == pytest.approx((-0.507, -0.026), abs=5e-4)


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_paired_interval_holds_the_difference_turns_round_and_is_never_empty(counts):
    here, there = paired(*counts)
    low, high = stats.paired_difference_interval(here, there)
    assert -1 - 1e-9 <= low < high <= 1 + 1e-9
    assert low - 1e-9 <= here.mean() - there.mean() <= high + 1e-9
    assert stats.paired_difference_interval(there, here) == pytest.approx((-high, -low))


@pytest.mark.parametrize(("common", "shares"), [(0.0, (0.3, 0.5)), (0.7, (0.2, 0.25)), (0.9, (0.97, 0.99))])
def test_paired_interval_covers_the_difference(common, shares):
    generator = np.random.default_rng(4)
    hits = 0
    for _ in range(600):
        own, others = generator.random((2, 200))
        shared = np.where(generator.random(200) < common, own, others)
        low, high = stats.paired_difference_interval(own < shares[0], shared < shares[1])
        hits += low <= shares[0] - shares[1] <= high
    # 600 repetitions: three standard errors are 0.027.
    assert hits / 600 >= 0.92


def test_where_all_pairs_agree_the_interval_has_a_width_that_shrinks_with_their_number():
    widths = [np.ptp(stats.paired_difference_interval(np.ones(n), np.ones(n))) for n in (20, 200, 2000)]
    assert widths[0] > widths[1] > widths[2] > 0
