"""Timings in pytest-benchmark's record: of each cell, its share of the time that cells took together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from steering.sweeps.cells import Outcome
from steering.sweeps.sae_quality import SaeOutcome

Measured = TypeVar("Measured", Outcome, SaeOutcome)


class CellClock:
    """What pytest-benchmark reads before and after a cell: the seconds that count for the cells so far.

    Cells are measured together when the first of them is asked for. A clock on the wall would give the time of all to
    that one, and none to the others.
    """

    __name__ = "CellClock"  # pytest-benchmark's record says which clock was read

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        """Seconds so far."""
        return self._seconds

    def counting(self, work: Callable[[object], Measured]) -> Callable[[object], Measured]:
        """The same work, for which the clock goes on by what counts for its outcome; of an SAE, all of the time."""

        def counted(argument: object) -> Measured:
            started = time.perf_counter()
            outcome = work(argument)
            passed = time.perf_counter() - started
            self._seconds += outcome.seconds if isinstance(outcome, Outcome) else passed
            return outcome

        return counted


def extra_info(outcome: Outcome | SaeOutcome) -> dict[str, object]:
    """Metrics beside the timings in pytest-benchmark's JSON."""
    values = {row.metric: {"value": row.value, "low": row.low, "high": row.high, "n": row.n} for row in outcome.rows}
    seconds = ("construction_seconds", "evaluation_seconds")
    timings: dict[str, object] = {key: getattr(outcome, key) for key in seconds if hasattr(outcome, key)}
    if outcome.was_measured_earlier:
        timings["was_measured_earlier"] = True  # its time here says nothing
    return timings | {"metrics": values}
