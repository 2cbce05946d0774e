"""One test for each construction method at each layer: does it steer, and what does it damage?"""

from __future__ import annotations

import pytest


def test_steering(cell, sweep, timed, verdict_on):
    """Measure a cell, write it down, and hold it against what its profile claims."""
    outcome = timed(sweep.measure, cell, capture_seconds=sweep.capture_seconds)
    verdict = verdict_on(outcome)
    if verdict.state == "broken":
        pytest.fail(verdict.message, pytrace=False)
