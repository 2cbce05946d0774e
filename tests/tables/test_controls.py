"""What is said where controls appear to steer."""

from __future__ import annotations

import pytest

from steering.tables.controls import controls_above_unsteered


@pytest.mark.parametrize(
    ("p_values", "told"),
    [
        ([0.2], "Of 1 control cell, 0 are above the unsteered run at the unadjusted level 0.05"),
        ([0.049, 0.05, 0.9], "Of 3 control cells, 1 is above"),
        ([0.01, None, 0.02, 0.5], "no more than 0.15 on average."),
    ],
)
def test_controls_above_the_unsteered_run_are_counted(p_values, told):
    found = controls_above_unsteered(p_values, 0.05)
    assert told in found
    assert found.endswith("on average.")


@pytest.mark.parametrize(("above", "below", "doubted"), [(2, 0, False), (3, 0, True), (3, 9, False), (4, 9, True)])
def test_more_controls_than_chance_gives_put_the_unsteered_run_in_doubt(above, below, doubted):
    found = controls_above_unsteered([0.01] * above + [0.6] * below, 0.05)
    assert ("rely on cells that are above their control" in found) == doubted


def test_nothing_is_said_where_no_control_was_tested():
    assert not controls_above_unsteered([], 0.05)
    assert not controls_above_unsteered([None, None], 0.05)
