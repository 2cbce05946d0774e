"""Batches of similar length, padding, and rows that are alike."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from steering.models.batching import distinct_rows, length_sorted_batches, pad_left, pad_right

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


@given(rows_of_ids, st.integers(1, 16), st.integers(0, 5))
def test_padding_to_a_multiple_and_to_a_width_adds_padding_alone(rows, multiple, more):
    longest = max(map(len, rows))
    right, left = pad_right(rows, multiple), pad_left(rows, longest + more)
    width = right.ids.shape[1]
    assert width % multiple == 0
    assert 0 <= width - longest < multiple
    assert right.ids[:, :longest].equal(pad_right(rows).ids)
    assert right.mask[:, :longest].equal(pad_right(rows).mask)
    assert left.ids[:, more:].equal(pad_left(rows, longest).ids)
    assert left.mask[:, more:].equal(pad_left(rows, longest).mask)
    for padding in (right.ids[:, longest:], right.mask[:, longest:], left.ids[:, :more], left.mask[:, :more]):
        assert not padding.any()


@given(rows_of_ids, st.integers(1, 3))
def test_repeated_batches_hold_whole_copies_one_after_another(rows, copies):
    batch = pad_right(rows).repeated(copies)
    assert batch.ids.tolist() == pad_right(rows).ids.tolist() * copies
    assert batch.mask.tolist() == pad_right(rows).mask.tolist() * copies


@given(st.lists(st.integers(0, 5), max_size=20))
def test_distinct_rows_rebuild_all_rows(keys):
    distinct, source = distinct_rows(keys)
    assert [keys[distinct[kind]] for kind in source] == keys
    assert len(distinct) == len(set(keys))
    assert distinct == sorted(distinct)
