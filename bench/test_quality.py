"""One test for each construction method at each layer: does it steer, and what does it damage?"""

from __future__ import annotations

import pytest

from steering.claims import judge


def test_steering(cell, sweep, timed):
    """Measure a cell, write it down, and hold it against what its profile claims."""
    outcome = timed(sweep, cell)
    verdict = judge(sweep.setting.profile, cell, outcome)
    if verdict.state == "broken":
        pytest.fail(verdict.message, pytrace=False)
