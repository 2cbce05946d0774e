"""The share of a loss that a reconstruction recovers."""

from __future__ import annotations

import numpy as np
import pytest

from steering.sae.quality import loss_recovered


def test_of_a_loss_that_zeros_do_not_raise_nothing_is_recovered():
    clean, spliced = np.array([2.0, 3.0]), np.array([2.5, 3.0])
    for ablated in (clean, clean - 0.1, np.array([2.2, 2.7])):
        assert loss_recovered(clean, spliced, ablated).tolist() == [0, 0]
    found = loss_recovered(clean, spliced, np.array([2.2, 4.0]))
    assert found.mean() == pytest.approx(1 - (spliced.mean() - clean.mean()) / (3.1 - 2.5))
