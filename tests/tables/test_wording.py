"""Wording that several tables and reports share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from steering.tables import wording
from steering.tables.markdown import markdown_list
from steering.tables.wording import counted_layers, layer_list
from tests.small_rows import small_row


@given(st.sets(st.integers(0, 60), min_size=1))
def test_layer_list_says_which(layers):
    parts = [part.split("–") for part in layer_list(layers).split(", ")]
    spans = [range(int(part[0]), int(part[-1]) + 1) for part in parts]
    assert sorted(layer for span in spans for layer in span) == sorted(layers)
    assert all(later.start > earlier.stop for earlier, later in pairwise(spans))


def test_layers_are_counted_with_their_noun():
    assert (counted_layers([8]), counted_layers([8, 9, 20])) == ("layer 8", "layers 8–9, 20")


@pytest.mark.parametrize(
    ("multiplier", "norm", "shown"),
    [(3.0, 0.04, "0.12"), (4.0, 1e38, "4e+38"), (1.0, 67.4, "67"), (0.0, 5.0, "0"), (1.0, 12345.6, "12346")],
)
def test_norm_is_never_shown_as_nothing_nor_as_many_digits(multiplier, norm, shown):
    assert wording.norm(small_row(multiplier=multiplier, vector_norm=norm)) == shown


@pytest.mark.parametrize(("multiplier", "shown"), [(1234.0, "1234"), (2.828, "2.83"), (60000.0, "60000"), (0.5, "0.5")])
def test_multiplier_is_shown_as_it_was_given(multiplier, shown):
    assert wording.multiplier(small_row(multiplier=multiplier)) == shown


@pytest.mark.parametrize("line", ["# big-layer1: missing", "1. x", "> q", "- y", "+ z", "12) w"])
def test_items_of_a_list_are_text(line):
    """Whatever a plan is called."""
    [item] = [token for token in MarkdownIt().parse(markdown_list([line])) if token.type == "inline"]
    assert item.level == 3
    assert "".join(child.content for child in item.children) == line
