"""Maps of layers by methods: the rows' values, and colours that text can be read on."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steering.report.heat import STEPS, damage_map, step_of, success_map
from steering.report.studies import studies_of
from tests.report_rows import LAYERS, damage_row, run, success_row, unsteered

pytestmark = pytest.mark.usefixtures("without_collection")


def study(rows):
    [found] = studies_of(rows, 0.01)
    return found


def test_maps_hold_the_rows_values():
    rows = run()
    for found, metric in (
        (success_map(study(rows)), "rollout_probability"),
        (damage_map(study(rows)), "loss_change_neutral"),
    ):
        values = {(row.method, row.layer): row for row in rows if row.metric == metric and row.layer is not None}
        assert [layer for layer, _ in found.lines] == list(LAYERS)
        assert found.columns == (("feature_delta", False), ("mean_difference", False), ("random_direction", True))
        for layer, cells in found.lines:
            for (label, _), cell in zip(found.columns, cells, strict=True):
                row = values.pop((label, layer))
                numbers = [float(text) for text in re.findall(r"[+-]?\d\.\d{3}", f"{cell.value} {cell.interval}")]
                assert numbers == pytest.approx([row.value, row.low, row.high], abs=5e-4)
        assert values == {}


def test_map_marks_what_steers_and_colours_by_value():
    found = study(run())
    cells = {
        (label, layer): cell
        for layer, line in success_map(found).lines
        for (label, _), cell in zip(success_map(found).columns, line, strict=True)
    }
    assert {key for key, cell in cells.items() if cell.marked} == {
        ("mean_difference", 8),
        ("mean_difference", 20),
        ("feature_delta", 20),
    }
    ordered = sorted(cells.values(), key=lambda cell: float(cell.value))
    assert [cell.step for cell in ordered] == sorted(cell.step for cell in cells.values())
    assert ordered[-1].step == STEPS - 1


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 2))
@example(0.0, 1.0, 5e-324)
def test_colours_rise_with_values(first, second, high):
    low, top = sorted((step_of(min(first, high), high), step_of(min(second, high), high)))
    assert 0 <= low <= top < STEPS
    assert (step_of(first, high) <= step_of(second, high)) or first > second


def test_a_dose_that_is_repeated_names_its_columns():
    rows = [unsteered(), *(success_row("mean_difference", 8, 30, multiplier=dose) for dose in (1.0, 2.0))]
    assert [label for label, _ in success_map(study(rows)).columns] == ["mean_difference ×1", "mean_difference ×2"]


def test_scale_of_losses_that_all_fall_ends_at_0():
    rows = [unsteered(), *(damage_row("mean_difference", layer, -0.1) for layer in LAYERS)]
    found = damage_map(study(rows))
    assert found.high == "0.000"
    assert {cell.step for _, cells in found.lines for cell in cells} == {0}


def test_damage_is_not_marked():
    assert not any(cell.marked for _, line in damage_map(study(run())).lines for cell in line if cell)


def test_controls_stand_last_whatever_their_names():
    rows = [replace(row, method="a_control") if row.is_control else row for row in run()]
    assert [is_control for _, is_control in success_map(study(rows)).columns] == [False, False, True]
