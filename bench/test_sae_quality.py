"""One test for each sparse autoencoder: how much of the residual stream and of the predictions does it keep?"""

from __future__ import annotations

import pytest


def test_sae_quality(sae_layer, sae_quality, timed, verdict_on):
    """Measure an SAE, write it down, and hold it against what its profile claims."""
    verdict = verdict_on(timed(sae_quality.measure, sae_layer))
    if verdict.state == "broken":
        pytest.fail(verdict.message, pytrace=False)
