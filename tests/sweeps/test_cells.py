"""Cells, the controls that they need, and the order in which they are measured."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.profiles import MethodPlan, Profile
from steering.sweeps.cells import Cell, Outcome, control_of, plans_of, with_controls
from tests.small_rows import small_row

PLANS = (
    MethodPlan("first", 1.0, "mean_difference", control="second", norm_of="third"),
    MethodPlan("second", 2.0, "mean_difference", control="third"),
    MethodPlan("third", 3.0, "random_direction"),
    MethodPlan("fourth", 4.0, "mean_difference", control="third", norm_of="second"),
)
PROFILE = Profile("test", "", "m", "c", "n", PLANS)


def cell(name: str, layer: int = 0) -> Cell:
    return Cell(name, layer, PROFILE.plan(name).multiplier)


def names(cells: list[Cell]) -> list[str]:
    return [each.method for each in cells]


def test_cell_id_ends_with_the_layer():
    assert Cell("mean_difference", 8, 3.0).id == "mean_difference-layer8"


def test_control_is_at_the_cell_s_layer_with_its_own_multiplier():
    assert control_of(PROFILE, Cell("first", 7, 99.0)) == Cell("second", 7, 2.0)
    assert control_of(PROFILE, Cell("third", 7, 3.0)) is None


def test_plans_that_a_cell_needs_are_its_own_and_the_one_whose_norm_it_takes():
    assert plans_of(PROFILE, "first") == [PLANS[0], PLANS[2]]
    assert plans_of(PROFILE, "second") == [PLANS[1]]


def test_controls_of_controls_come_first():
    assert names(with_controls(PROFILE, [cell("first")])) == ["third", "second", "first"]


def test_a_control_that_several_cells_share_is_measured_once():
    assert names(with_controls(PROFILE, [cell("fourth"), cell("first"), cell("second")])) == [
        "third", "fourth", "second", "first",
    ]  # fmt: skip
    assert with_controls(PROFILE, [cell("second")] * 3) == [cell("third"), cell("second")]


def test_cells_of_one_plan_with_other_multipliers_are_other_cells():
    other = Cell("third", 0, 5.0)
    assert with_controls(PROFILE, [other, cell("second")]) == [other, cell("third"), cell("second")]


def test_cells_are_measured_by_layer_and_within_a_layer_as_they_are_given():
    asked = [cell("third", 2), cell("fourth", 0), cell("third", 0), cell("second", 1)]
    assert with_controls(PROFILE, asked) == [
        cell("third", 0), cell("fourth", 0), cell("third", 1), cell("second", 1), cell("third", 2),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["first", "second", "third", "fourth"]), st.integers(0, 3)), max_size=10))
def test_every_cell_comes_once_after_all_that_it_is_held_against(asked):
    ordered = with_controls(PROFILE, [cell(*each) for each in asked])
    assert len(set(ordered)) == len(ordered)
    assert {cell(*each) for each in asked} <= set(ordered)
    needed = {"first": {"second", "third"}, "second": {"third"}, "third": set(), "fourth": {"third"}}
    wanted = {(other, layer) for name, layer in asked for other in {name, *needed[name]}}
    assert {(each.method, each.layer) for each in ordered} == wanted
    assert [each.layer for each in ordered] == sorted(each.layer for each in ordered)
    for place, each in enumerate(ordered):
        control = control_of(PROFILE, each)
        assert control is None or control in ordered[:place]
    assert with_controls(PROFILE, ordered) == ordered


@pytest.mark.parametrize("statuses", list(itertools.product(["ok", "failed", "skipped"], repeat=2)))
def test_failures_of_an_outcome_are_its_reasons_each_once(statuses):
    rows = tuple(small_row(status=status, reason=f"{status} it") for status in (*statuses, *statuses))
    assert Outcome(None, {}, rows).failures == (["failed it"] if "failed" in statuses else [])
