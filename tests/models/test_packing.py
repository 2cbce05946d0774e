"""Packed texts: which tokens are computed, how attention finds the texts again, and how texts are batched."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from steering.models.packing import MOST_POSITIONS, PackedTexts, pack, packed_batches
from steering.models.tokens import TokenizedText

ids = st.lists(st.integers(0, 2), min_size=1, max_size=20)
texts_of_ids = st.lists(
    st.builds(lambda prompt, ending: TokenizedText((*prompt, *ending), len(prompt)), ids, ids), min_size=1, max_size=8
)
SIDES = [TokenizedText((5, 6, 7, 8), 2), TokenizedText((5, 6, 9, 7, 8), 2), TokenizedText((5, 6, 7, 8), 3)]


def known_to(text: TokenizedText) -> list[tuple[tuple[int, ...], int]]:
    """What the numbers of each token but the last depend on: the ids so far, and how many of them are of the prompt."""
    return [(text.ids[:end], min(end, text.prompt_length)) for end in range(1, len(text.ids))]


@given(texts_of_ids)
@example(SIDES)
def test_packed_texts_hold_what_each_token_depends_on_once(texts):
    packed = pack(texts)
    numbers = {}
    for row, text in enumerate(texts):
        for position, known in enumerate(known_to(text)):
            token = int(packed.token_at[row, position])
            assert numbers.setdefault(known, token) == token
            found = (int(values[0, token]) for values in (packed.ids, packed.positions, packed.prompt))
            assert tuple(found) == (text.ids[position], position, position < text.prompt_length)
        assert not packed.token_at[row, len(text.ids) - 1 :].any()
    assert sorted(numbers.values()) == list(range(len(numbers)))
    count, width = packed.ids.numel(), packed.token_at.shape[1]
    assert count % 16 == width % 16 == 0
    assert 0 <= count - len(numbers) < 16
    assert 0 <= width - max(len(text.ids) - 1 for text in texts) < 16
    for values in (packed.ids, packed.positions, packed.prompt):
        assert values.shape == (1, count)
        assert (values[0, len(numbers) :] == values[0, 0]).all()
    assert packed.token_at.flatten()[packed.place_of][: len(numbers)].tolist() == list(range(len(numbers)))


def test_a_beginning_is_shared_within_both_prompts_alone():
    packed = pack(SIDES)
    assert packed.token_at[:, :4].tolist() == [[0, 1, 2, 0], [0, 1, 3, 4], [0, 1, 5, 0]]
    assert packed.ids[0, :6].tolist() == [5, 6, 7, 9, 7, 7]
    assert packed.prompt[0, :6].tolist() == [True, True, False, False, False, True]


@given(texts_of_ids, st.integers(1, 3))
def test_copies_hold_the_same_texts_and_share_nothing(texts, copies):
    packed = pack(texts)
    repeated = packed.repeated(copies)
    count = packed.ids.numel()
    for name in ("ids", "positions", "prompt"):
        assert torch.equal(getattr(repeated, name), getattr(packed, name).repeat(1, copies))
    by_copy = repeated.token_at.unflatten(0, (copies, -1))
    for number, token_at in enumerate(by_copy):
        assert torch.equal(token_at, packed.token_at + count * number)
    assert torch.equal(
        repeated.token_at.flatten()[repeated.place_of],
        packed.token_at.flatten()[packed.place_of].repeat(copies)
        + count * torch.arange(copies).repeat_interleave(count),
    )


def states_of(packed: PackedTexts) -> torch.Tensor:
    return torch.randn(1, 3, packed.ids.numel(), 2, generator=torch.Generator().manual_seed(0))


@given(texts_of_ids, st.integers(1, 3))
def test_states_by_text_and_back_are_those_of_the_tokens(texts, copies):
    packed = pack(texts).repeated(copies)
    states = states_of(packed)
    found = packed.by_text(states)
    for row, text in enumerate(texts * copies):
        for position in range(len(text.ids) - 1):
            assert torch.equal(found[row, :, position], states[0, :, packed.token_at[row, position]])
    back = packed.by_token(found.transpose(1, 2))
    count = len({known for text in texts for known in known_to(text)})
    for copy in range(copies):
        start = copy * (packed.ids.numel() // copies)
        assert torch.equal(back[0, start : start + count], states[0, :, start : start + count].transpose(0, 1))


@given(texts_of_ids)
def test_gathered_states_are_those_of_the_first_text_that_has_the_token(texts):
    packed = pack(texts)
    states = [torch.tensor([[row, position] for position in range(len(text.ids))]) for row, text in enumerate(texts)]
    found = packed.gathered(states)
    assert found.shape == (1, packed.ids.numel(), 2)
    for token, (row, position) in enumerate(found[0].tolist()):
        assert packed.token_at[row, position] == (token if token <= packed.token_at.max() else 0)


@pytest.mark.parametrize("window", [1, 3, 15, 16, 100, None])
def test_positions_see_as_far_back_as_the_window(window):
    packed = pack([TokenizedText((1,) * 12, 4)])
    query, key = np.indices((16, 16))
    seen = packed.seen(window)
    expected = (key <= query) & (query - key < (window or 100))
    if seen is None:  # is causal, as attention understands it
        assert (expected == (key <= query)).all()
    else:
        assert (seen[0, 0].numpy() == expected).all()
    assert (seen is None) == (window not in {1, 3, 15})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200)), min_size=1, max_size=30), st.integers(1, 1000))
def test_batches_hold_each_text_once_and_those_of_one_prompt_together(drawn, budget):
    texts = [TokenizedText((prompt,) + (9,) * length, 1) for prompt, length in drawn]
    batches = packed_batches(texts, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(texts)))
    for batch in batches:
        positions = [len(texts[index].ids) - 1 for index in batch]
        width = -(-max(positions) // 16) * 16
        assert len(batch) == 1 or len(batch) * width <= budget
        assert len({position <= MOST_POSITIONS for position in positions}) == 1, "they are computed in different ways"
    order = [index for batch in batches for index in batch]
    kinds = [(len(texts[index].ids) - 1 <= MOST_POSITIONS, texts[index].ids[0]) for index in order]
    changes = [later for earlier, later in pairwise(kinds) if earlier != later]
    assert len(changes) == len(set(kinds)) - 1


def test_batches_of_a_worked_example():
    lengths = {"a": (20, 60), "b": (30,), "c": (70, 5)}
    texts = [TokenizedText((ord(name), *range(length)), 1) for name, each in lengths.items() for length in each]
    assert packed_batches(texts, 160) == [[3, 4], [1, 0], [2]]
    assert packed_batches(texts, 1000) == [[3, 4, 1, 0, 2]]
    assert packed_batches(texts[::-1], 1000) == [[1, 0, 3, 4, 2]]
    assert packed_batches([], 10) == []
