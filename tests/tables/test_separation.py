"""How far steering pulls the sides of pairs apart, against least squares by numpy and the interval by a simulation."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from steering.results import Row
from steering.tables.separation import separation_summary, slopes
from tests.small_rows import small_row, unsteered_row

HEADINGS = ["method", "layer", "×", "pairs", "wrong way [95 % CI]", "slope per × [95 % CI]"]


def losses(negative: np.ndarray, positive: np.ndarray, **changes: object) -> list[Row]:
    sides = (("loss_change_negative", negative), ("loss_change_positive", positive))
    return [small_row(metric=metric, items=tuple(items), n=len(items), **changes) for metric, items in sides]


def numbers(cell: str) -> list[float]:
    return [float(found) for found in re.findall(r"[-+]?\d+\.\d+", cell)]


def test_pairs_that_move_the_wrong_way_are_counted():
    negative, positive = np.array([0.5, 0.1, 0.0, -0.3]), np.array([0.1, 0.2, 0.0, -0.4])
    lines = separation_summary([unsteered_row(), *losses(negative, positive, multiplier=2.0)])
    assert lines[0] == HEADINGS
    [[*names, wrong, slope]] = lines[1:]
    assert names == ["mean_difference", "1", "2", "4"]
    # Wilson's interval of 1 of 4 from its formula: centre (p + z²/2n) / (1 + z²/n).
    z, n, p = 1.959964, 4, 0.25
    centre, half = (p + z**2 / 2 / n) / (1 + z**2 / n), z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5
    assert numbers(wrong) == pytest.approx([p, centre - half, centre + half], abs=6e-4)
    assert numbers(slope)[0] == pytest.approx((0.4 - 0.1 + 0.0 + 0.1) / 4 / 2, abs=6e-5)


def test_interval_of_the_slope_covers_what_many_pairs_would_show():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        changes = rng.normal(0.3, 0.5, size=50)
        [_, line] = separation_summary(losses(changes, np.zeros(50), multiplier=3.0))
        _, low, high = numbers(line[-1])
        covered.append(low <= 0.1 <= high)
    assert 0.85 <= np.mean(covered) <= 1.0


@given(
    multipliers=arrays(float, st.integers(1, 4), elements=st.floats(0.5, 20), unique=True),
    changes=arrays(float, (4, 3), elements=st.floats(-2, 2)),
)
def test_slopes_are_least_squares_through_the_origin(multipliers, changes):
    changes = changes[: len(multipliers)]
    expected = np.linalg.lstsq(multipliers[:, None], changes, rcond=None)[0][0]
    np.testing.assert_allclose(slopes(multipliers, changes), expected, atol=1e-12)


def test_slope_is_over_all_multipliers_of_the_same_vector():
    truth = np.array([0.02, -0.01, 0.05])
    rows = [row for dose in (3.0, 6.0, 12.0) for row in losses(truth * dose, np.zeros(3), multiplier=dose)]
    rows[-2:] = losses(truth * 12 + 0.3, np.zeros(3), multiplier=12.0)
    other = losses(np.ones(3), np.zeros(3), multiplier=1.0, vector_hash="d" * 64, layer=2)
    lines = separation_summary([*rows, *other])[1:]
    doses = np.array([3.0, 6.0, 12.0])
    through_origin = truth.mean() + 0.3 * 12 / (doses @ doses)
    assert [numbers(line[-1])[0] for line in lines] == pytest.approx([*[through_origin] * 3, 1.0], abs=6e-5)
    assert [numbers(line[-2])[0] for line in lines] == pytest.approx([1 / 3, 1 / 3, 0.0, 0.0], abs=6e-4)


def test_slope_is_the_same_where_only_some_doses_are_shown():
    doses = {6.0: 0.3, 12.0: 0.9}
    rows = [row for dose, change in doses.items() for row in losses(np.full(4, change), np.zeros(4), multiplier=dose)]
    shown = [row for row in rows if row.multiplier == 12.0]
    assert separation_summary(shown, rows) == [HEADINGS, separation_summary(rows)[2]]
    assert numbers(separation_summary(rows)[2][-1])[0] == pytest.approx((6 * 0.3 + 12 * 0.9) / 180, abs=6e-5)


def test_dose_that_was_given_and_found_by_a_budget_counts_once():
    truth = np.array([0.02, -0.01, 0.05])
    rows = [*losses(truth * 3, np.zeros(3), multiplier=3.0), *losses(truth * 6 + 0.3, np.zeros(3), multiplier=6.0)]
    budget = {"neutral_budget": 0.05, "development_loss_change": 0.05}
    found = losses(truth * 6 + 0.3, np.zeros(3), multiplier=6.0, parameters=budget)
    once, twice = separation_summary(rows), separation_summary([*rows, *found])
    assert {line[-1] for line in twice[1:]} == {once[1][-1]}


def test_other_vectors_of_a_layer_have_slopes_of_their_own():
    one = losses(np.ones(3), np.zeros(3), multiplier=1.0)
    other = losses(np.full(3, 4.0), np.zeros(3), multiplier=2.0, vector_hash="d" * 64)
    assert [numbers(line[-1])[0] for line in separation_summary([*one, *other])[1:]] == [1.0, 2.0]


def test_slope_of_a_flipped_vector_is_over_its_negative_multiplier():
    [_, line] = separation_summary(losses(np.array([-0.4, -0.2]), np.zeros(2), multiplier=-2.0))
    assert numbers(line[-1])[0] == pytest.approx(0.15)
    assert numbers(line[-2])[0] == 1.0


def test_cells_without_both_sides_are_left_out_and_multiplier_0_has_no_slope():
    both = losses(np.array([0.1]), np.array([0.2]))
    assert separation_summary([*both[:1], small_row()]) == [HEADINGS]
    assert separation_summary([both[0], *losses(np.ones(2), np.ones(2))[1:]]) == [HEADINGS]
    [_, line] = separation_summary(losses(np.zeros(2), np.zeros(2), multiplier=0.0))
    assert (numbers(line[-2])[0], line[-1]) == (0.0, "-")
