"""Batches of similar length, padding, and rows that are alike."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from steering.models.batching import TokenBatch, distinct_rows, length_sorted_batches, pad_left, pad_right

rows_of_ids = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=8)


@given(lengths=st.lists(st.integers(1, 200), max_size=60), budget=st.integers(1, 400))
@example([5] * 10, 20)
@example([300, 1, 1], 10)
def test_batches_hold_each_text_once_within_the_budget_longest_first(lengths, budget):
    batches = length_sorted_batches(lengths, budget)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    for earlier, later in pairwise(order):
        assert (-lengths[earlier], earlier) < (-lengths[later], later)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * lengths[batch[0]] > budget, f"{following[0]} had room in the batch before"
    assert length_sorted_batches(tuple(lengths), budget) == batches


def test_batches_of_a_worked_example():
    assert length_sorted_batches([3, 9, 4, 4, 20], 12) == [[4], [1], [2, 3, 0]]


@given(rows_of_ids)
def test_padding_fills_one_side_and_the_mask_finds_the_rows(rows):
    width = max(map(len, rows))
    for batch, left in ((pad_left(rows, width), True), (pad_right(rows), False)):
        ids, mask = batch.ids.numpy(), batch.mask.numpy()
        assert ids.shape == mask.shape == (len(rows), width)
        assert ids.dtype == mask.dtype == np.int64
        for row, found, filled in zip(rows, ids.tolist(), mask.tolist(), strict=True):
            gap = [0] * (width - len(row))
            assert found == (gap + row if left else row + gap)
            assert filled == (gap + [1] * len(row) if left else [1] * len(row) + gap)


@given(rows_of_ids, st.integers(0, 5))
def test_padding_to_a_width_adds_padding_alone(rows, more):
    longest = max(map(len, rows))
    left = pad_left(rows, longest + more)
    assert left.ids[:, more:].equal(pad_left(rows, longest).ids)
    assert left.mask[:, more:].equal(pad_left(rows, longest).mask)
    assert not left.ids[:, :more].any()
    assert not left.mask[:, :more].any()


@given(rows_of_ids, st.integers(1, 12))
def test_positions_are_those_within_each_text_whatever_a_cache_holds(rows, last):
    width = max(map(len, rows))
    for batch in (pad_left(rows, width), pad_right(rows)):
        positions = batch.inputs["position_ids"]
        for row, found, filled in zip(rows, positions, batch.mask.bool(), strict=True):
            assert found[filled].tolist() == list(range(len(row)))
        rest = TokenBatch(batch.ids[:, -last:], batch.mask).inputs["position_ids"]
        assert torch.equal(rest, positions[:, -last:])


@given(st.lists(st.integers(0, 5), max_size=20))
def test_distinct_rows_rebuild_all_rows(keys):
    distinct, source = distinct_rows(keys)
    assert [keys[distinct[kind]] for kind in source] == keys
    assert len(distinct) == len(set(keys))
    assert distinct == sorted(distinct)
