"""Wording that several tables and reports share."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from steering.tables.wording import counted_layers, layer_list


@given(st.sets(st.integers(0, 60), min_size=1))
def test_layer_list_says_which(layers):
    parts = [part.split("–") for part in layer_list(layers).split(", ")]
    spans = [range(int(part[0]), int(part[-1]) + 1) for part in parts]
    assert sorted(layer for span in spans for layer in span) == sorted(layers)
    assert all(later.start > earlier.stop for earlier, later in pairwise(spans))


def test_layers_are_counted_with_their_noun():
    assert (counted_layers([8]), counted_layers([8, 9, 20])) == ("layer 8", "layers 8–9, 20")
