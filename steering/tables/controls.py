"""Whether controls appear to steer, in sentences: if several do, a cell's own p value says less than it seems to."""

from __future__ import annotations

from collections.abc import Sequence

from steering.tables import wording

# Controls above the unsteered run that are too many for chance; they share that run, and are above it together.
_MANY_CONTROLS = 3
_TIMES_CHANCE = 5


def controls_above_unsteered(p_values: Sequence[float | None], level: float) -> str:
    """How many controls are above the unsteered run, and what follows from it; empty if none was tested.

    Args:
        p_values: Of each control, against the unsteered run, unadjusted; None of one that was not tested.
        level: Of the test.
    """
    tested = [value for value in p_values if value is not None]
    if not tested:
        return ""
    reached, expected = sum(value < level for value in tested), len(tested) * level
    statement = (
        f"Of {wording.counted(len(tested), 'control cell')}, {reached} {'is' if reached == 1 else 'are'} "
        f"above the unsteered run at the unadjusted level {level:g}, where chance alone would give "
        f"no more than {expected:.2g} on average."
    )
    if reached < _MANY_CONTROLS or reached <= _TIMES_CHANCE * expected:
        return statement
    return (
        f"{statement} That suggests that controls raise P(success), too, or that the unsteered run, with which all "
        "cells are compared, came out low by chance: rely on cells that are above their control as well."
    )
