"""Agreement and separation, against straightforward sums, scipy, and what random pairs give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from steering.concept_checks.pair_directions import class_separation, leave_one_out_cosines, sign_flip_null

DIFFERENCES = arrays(float, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=st.integers(-3, 3).map(float))


def cosine(one, other):
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / norms if norms > 0 else 0.0


@given(DIFFERENCES)
def test_cosines_are_those_with_the_mean_of_the_others(differences):
    expected = [
        cosine(row, np.delete(differences, number, axis=0).mean(axis=0)) for number, row in enumerate(differences)
    ]
    np.testing.assert_allclose(leave_one_out_cosines(differences), expected, atol=1e-9)


@given(DIFFERENCES, st.floats(1e-6, 1e6))
def test_cosines_depend_on_no_unit(differences, unit):
    np.testing.assert_allclose(leave_one_out_cosines(differences * unit), leave_one_out_cosines(differences), atol=1e-9)


def test_null_is_that_of_all_swaps():
    """Of five pairs there are 32; random ones have the same mean and quantile."""
    differences = np.random.default_rng(0).normal(size=(5, 3)) + 0.5
    every = [
        leave_one_out_cosines(differences * np.array(signs)[:, None]).mean()
        for signs in itertools.product([-1, 1], repeat=5)
    ]
    null = sign_flip_null(differences, 20_000)
    assert set(np.round(null, 9)) == set(np.round(every, 9))
    assert null.mean() == pytest.approx(np.mean(every), abs=0.01)
    assert np.mean(null >= 0.3) == pytest.approx(np.mean(np.array(every) >= 0.3), abs=0.015)


def test_random_pairs_agree_no_more_than_by_chance_and_planted_ones_do():
    rng = np.random.default_rng(1)
    below = []
    for _ in range(100):
        differences = rng.normal(size=(12, 8))
        null = sign_flip_null(differences, 199)
        below.append(np.mean(null >= leave_one_out_cosines(differences).mean()) < 0.1)
    assert 0.02 <= np.mean(below) <= 0.2
    planted = rng.normal(size=(12, 8)) + 1.0
    assert leave_one_out_cosines(planted).mean() > sign_flip_null(planted, 999).max() - 1e-9


@given(
    arrays(float, 7, elements=st.integers(-3, 3).map(float)), arrays(float, 7, elements=st.integers(-3, 3).map(float))
)
def test_area_is_that_of_mann_and_whitney(positive, negative):
    area, low, high = class_separation(positive, negative)
    assert area == pytest.approx(scipy_stats.mannwhitneyu(positive, negative).statistic / 49)
    assert low - 1e-12 <= area <= high + 1e-12 or 0 < area < 1


def projections(rng):
    """Of 50 pairs whose texts share their content; the true area is Φ(2 · 0.4 / √(2 (1 + 0.5²)))."""
    content = rng.normal(size=50)
    return [content + sign * 0.4 + 0.5 * rng.normal(size=50) for sign in (1, -1)]


def test_interval_is_as_wide_as_the_area_varies_and_covers_the_true_one():
    """Drawn without the pairs, or one side alone, it would not be."""
    rng = np.random.default_rng(2)
    truth = scipy_stats.norm.cdf(0.8 / np.sqrt(2.5))
    areas = [scipy_stats.mannwhitneyu(*projections(rng)).statistic / 2500 for _ in range(1000)]
    assert np.mean(areas) == pytest.approx(truth, abs=0.005)
    intervals = np.array([class_separation(*projections(rng))[1:] for _ in range(25)])
    assert 0.8 <= np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])) <= 1.0
    assert np.mean(intervals[:, 1] - intervals[:, 0]) == pytest.approx(2 * 1.96 * np.std(areas), rel=0.1)


def test_sides_that_never_mix_leave_nothing_to_draw():
    assert class_separation(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == (1.0, 1.0, 1.0)
