"""What a number of rollouts can find, in a sentence: a cell that shows nothing is read for what it is."""

from __future__ import annotations

from steering.power import minimum_detectable_difference
from steering.tables import wording


def detectable(rollouts: int, unsteered: float, level: float, cells: int) -> str:
    """What a run finds with a probability of 80 %, or that it finds nothing with it.

    Args:
        rollouts: Of each cell, and of the unsteered run.
        unsteered: P(success) of the unsteered run.
        level: Of the test.
        cells: That share the level.
    """
    sizes = f"With {wording.counted(rollouts, 'rollout')}"
    shared = f"(level {level:g} over {wording.counted(cells, 'cell')})"
    rise = minimum_detectable_difference(rollouts, unsteered, alpha=level, cells=cells)
    if unsteered == 1:
        return f"{sizes}, every unsteered one of which succeeded, no rise of P(success) is possible."
    if rise is None:
        return (
            f"{sizes}, no rise of P(success) above the unsteered {unsteered:.3f}, however large, is found with a "
            f"probability of 80 % {shared}: sample more rollouts."
        )
    return (
        f"{sizes}, a rise of P(success) by {rise:.3f} above the unsteered {unsteered:.3f} is found with a probability "
        f"of 80 % {shared}; a smaller one may be missed."
    )
