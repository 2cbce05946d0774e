"""What a number of rollouts can show, against simulation through the tests themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from steering import stats
from steering.power import minimum_detectable_difference, minimum_detectable_drop, power_of_drop
from tests.test_stats import ones

REPETITIONS = 1500


def monte_carlo(share: float) -> float:
    """Three standard errors of a share of the repetitions."""
    return 3 * math.sqrt(share * (1 - share) / REPETITIONS)


@pytest.mark.parametrize(("share", "cells"), [(0.035, 1), (0.035, 40), (0.3, 1), (0.5, 10)])
def test_minimum_detectable_difference_is_found_as_often_as_it_says(share, cells):
    generator = np.random.default_rng(11)
    rise = minimum_detectable_difference(200, share, alpha=0.01, cells=cells)
    before, after = (generator.random((REPETITIONS, 200)) < p for p in (share, share + rise))
    pairs = zip(after.astype(float), before.astype(float), strict=True)
    found = np.mean([stats.p_more_successes(*pair) <= 0.01 / cells for pair in pairs])
    assert abs(found - 0.8) <= monte_carlo(0.8)


def test_pairs_that_share_random_numbers_are_found_more_often():
    uniforms = np.random.default_rng(12).random((REPETITIONS, 200))
    rise = minimum_detectable_difference(200, 0.3, alpha=0.01)
    before, after = ((uniforms < p).astype(float) for p in (0.3, 0.3 + rise))
    assert np.mean([stats.p_more_successes(*pair) <= 0.01 for pair in zip(after, before, strict=True)]) > 0.9


def test_minimum_detectable_difference_shrinks_with_pairs_and_grows_with_cells():
    def smallest(n: int, cells: int = 1) -> float:
        return minimum_detectable_difference(n, 0.1, alpha=0.01, cells=cells)

    assert smallest(2000) < smallest(200) < smallest(50)
    assert smallest(200, 1) < smallest(200, 5) < smallest(200, 40)


@pytest.mark.parametrize(("n", "share"), [(5, 0.5), (200, 0.99), (200, 1.0)])
def test_no_difference_is_detectable_where_not_even_a_rise_to_1_is(n, share):
    assert minimum_detectable_difference(n, share, alpha=0.01) is None


@pytest.mark.parametrize(
    ("share", "drop", "n", "old_n"),
    [(0.5, 0.15, 200, 2000), (0.5, 0.15, 200, 200), (0.95, 0.05, 200, 2000), (0.1, 0.1, 50, 80), (1.0, 0.04, 200, 300)],
)
def test_power_of_a_drop_is_how_often_the_test_finds_it(share, drop, n, old_n):
    generator = np.random.default_rng(13)
    new, old = generator.binomial(n, share - drop, REPETITIONS), generator.binomial(old_n, share, REPETITIONS)
    counts = zip(new, old, strict=True)
    found = np.mean([stats.p_proportion_drop(ones(x, n), ones(y, old_n)) <= 0.04 / 40 for x, y in counts])
    power = power_of_drop(share, drop, n, old_n, alpha=0.04, cells=40)
    assert abs(found - power) <= monte_carlo(max(power, 0.01)) + 1e-4


@settings(max_examples=50, deadline=None)
@given(
    share=st.floats(1e-6, 1 - 1e-6) | st.sampled_from([0.0, 1.0]),
    drop=st.floats(0, 1),
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    level=st.floats(1e-4, 0.4),
)
def test_power_of_a_drop_is_the_sum_over_all_outcomes(share, drop, sizes, level):
    new, old = np.arange(sizes[0] + 1)[:, None], np.arange(sizes[1] + 1)
    probabilities = binom.pmf(new, sizes[0], max(share - drop, 0)) * binom.pmf(old, sizes[1], share)
    found = probabilities[stats.p_fewer(new, sizes[0], old, sizes[1]) <= level].sum()
    assert power_of_drop(share, drop, *sizes, alpha=level) == pytest.approx(found, abs=3e-5)


@pytest.mark.parametrize(("share", "old_n"), [(0.5, 2000), (0.9, 300), (0.1, 2000)])
def test_minimum_detectable_drop_is_the_one_with_that_power(share, old_n):
    drop = minimum_detectable_drop(share, 200, old_n, alpha=0.04, cells=40)
    powers = power_of_drop(share, np.array([drop - 0.01, drop, drop + 0.01]), 200, old_n, alpha=0.04, cells=40)
    assert powers[1] == pytest.approx(0.8, abs=1e-6)
    assert powers[0] < 0.8 < powers[2]


def test_no_drop_is_detectable_where_not_even_one_to_0_is():
    assert minimum_detectable_drop(0.05, 200, 200, alpha=0.04, cells=40) is None
    assert minimum_detectable_drop(0.0, 200, 200, alpha=0.04) is None


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
def test_at_a_level_that_lets_everything_pass_the_smallest_effect_has_the_power_or_is_none(alpha):
    rise = minimum_detectable_difference(5, 0.5, alpha=alpha)
    drop = minimum_detectable_drop(0.5, 200, 200, alpha=alpha)
    assert rise is None or 0 <= rise <= 0.5
    assert power_of_drop(0.5, drop, 200, 200, alpha=alpha) >= 0.8 - 1e-6
    if power_of_drop(0.5, 0.0, 200, 200, alpha=alpha) >= 0.8:
        assert drop == 0.0


def test_power_without_a_drop_is_at_most_the_level():
    for share in (0.0, 0.035, 0.5, 0.95, 1.0):
        assert power_of_drop(share, 0.0, 200, 2000, alpha=0.01) <= 0.01
