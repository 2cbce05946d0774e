"""Decoding by a model that is a function of what it has read, against completing each row alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from steering.models.decoding import _ROWS_MULTIPLE, Limits, Prefix, decode, filled_up
from steering.models.sampling import NucleusSampler, Sampler, uniform_streams
from tests.references import Scripted

VOCABULARY = 7
WIDTH = 4  # of the prompts, with their padding
STEPS = 9

Ended = Callable[[Sequence[int]], bool]


def logits_after(history: Sequence[int]) -> np.ndarray:
    """Logits that any difference in what was read changes."""
    return np.random.default_rng([len(history), *history]).normal(0, 1.5, VOCABULARY).astype(np.float32)


@dataclass
class FakeModel:
    """A cache that holds the tokens of each branch, and the step that extends it."""

    histories: list[list[int]]
    seen: list[int] = field(default_factory=list)
    copies: int = 0

    def __post_init__(self) -> None:
        self.origins = list(range(len(self.histories)))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.histories = [list(self.histories[index]) for index in indices.tolist()]
        self.origins = [self.origins[index] for index in indices.tolist()]
        self.copies += 1

    def step(self, ids: torch.Tensor, mask: torch.Tensor, cache: FakeModel, origins: torch.Tensor) -> torch.Tensor:
        assert cache is self
        assert origins.tolist() == self.origins, "each branch is known by what it started from"
        assert ids.shape == (len(self.histories), 1)
        self.seen.append(len(ids))
        for history, token in zip(self.histories, ids[:, 0].tolist(), strict=True):
            history.append(token)
        assert mask.shape == (len(ids), WIDTH + len(self.seen))
        assert mask.sum(dim=1).tolist() == [len(history) for history in self.histories], "masks belong to branches"
        return torch.from_numpy(np.stack([logits_after(history) for history in self.histories]))

    def prefix(self) -> Prefix:
        mask = torch.tensor([[0] * (WIDTH - len(history)) + [1] * len(history) for history in self.histories])
        return Prefix(self, mask, torch.from_numpy(np.stack([logits_after(history) for history in self.histories])))


def complete(model: FakeModel, branches: Sequence[int], sampler: Sampler, limits: Limits, first: int = 0) -> list:
    rows = range(first, first + len(branches))
    advances: list[int] = []
    found = decode(
        model.step, model.prefix(), branches, rows, sampler=sampler, limits=limits, advance=lambda: advances.append(1)
    )
    assert len(model.seen) < len(advances) <= limits.new_tokens
    return found


def alone(prompt: Sequence[int], row: int, sampler: Sampler, limits: Limits) -> list[int]:
    """What a row becomes without any other."""
    new: list[int] = []
    for step in range(limits.new_tokens):
        logits = torch.from_numpy(logits_after([*prompt, *new])).unsqueeze(0)
        token = int(sampler.choose(logits, torch.tensor([0]), torch.tensor([row]), step))
        if token in limits.end_ids:
            return new
        new.append(token)
        if limits.ended(new):
            return new
    return new


def whole_eights(count: int) -> int:
    return -(-count // _ROWS_MULTIPLE) * _ROWS_MULTIPLE


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=WIDTH)
enders: dict[str, Ended] = {
    "never": lambda _: False,
    "at a three": lambda new: new[-1] == 3,
    "after two fives": lambda new: list(new).count(5) == 2,
    "at once": lambda _: True,
}


@given(
    starts=st.lists(prompts, min_size=1, max_size=12),
    branches=st.lists(st.integers(0, 11), min_size=1, max_size=40),
    ender=st.sampled_from(list(enders)),
    end_ids=st.sets(st.integers(0, VOCABULARY - 1), max_size=2),
    new_tokens=st.integers(1, STEPS),
    first=st.integers(0, 50),
    top_p=st.sampled_from([0.1, 0.6, 1.0]),
    seed=st.integers(0, 1000),
)
@example([[0], [1, 2], [2]], [0] * 20 + [1] * 20 + [2] * 20, "at a three", {0}, STEPS, 100, 0.9, 0)
@example([[0]], [0], "never", set(), STEPS, 0, 0.9, 0)
def test_rows_complete_as_each_would_alone(starts, branches, ender, end_ids, new_tokens, first, top_p, seed):
    branches = [branch % len(starts) for branch in branches]
    sampler = NucleusSampler(uniform_streams(seed, 64, STEPS), top_p, 1.0)
    limits = Limits(new_tokens, end_ids, enders[ender])
    found = complete(FakeModel([list(start) for start in starts]), branches, sampler, limits, first)
    assert found == [alone(starts[branch], first + row, sampler, limits) for row, branch in enumerate(branches)]


def script(rows: int, *, distinct: bool, leaving: dict[int, int]) -> torch.Tensor:
    """Tokens `[row, step]` that never end but where `leaving` says so: step -> how many rows end there, last first."""
    tokens = torch.ones(rows, STEPS, dtype=torch.int64)
    if distinct:
        tokens[:, 0] = torch.arange(rows) + 10
    live = rows
    for step, count in leaving.items():
        tokens[live - count : live, step] = 0
        live -= count
    return tokens


def rows_seen(rows: int, *, distinct: bool, leaving: dict[int, int]) -> FakeModel:
    """Complete rows of one prompt by a script, whose tokens they must then have."""
    model = FakeModel([[1]])
    tokens = script(rows, distinct=distinct, leaving=leaving)
    found = complete(model, [0] * rows, Scripted(tokens), Limits(STEPS, {0}, lambda _: False))
    expected = [row.tolist() for row in tokens]
    assert found == [row[: row.index(0)] if 0 in row else row for row in expected]
    return model


def test_rows_that_are_alike_are_computed_once():
    assert rows_seen(100, distinct=False, leaving={}).seen == [_ROWS_MULTIPLE] * (STEPS - 1)
    assert rows_seen(104, distinct=True, leaving={}).seen == [104] * (STEPS - 1)


@given(
    tokens=st.lists(st.lists(st.integers(0, 2), min_size=STEPS, max_size=STEPS), min_size=1, max_size=40),
    branches=st.lists(st.integers(0, 2), min_size=40, max_size=40),
)
def test_as_many_rows_are_computed_as_differ(tokens, branches):
    branches = branches[: len(tokens)]
    model = FakeModel([[1], [2], [2, 1]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steering.models.decoding._IDLE_SHARE", 0)
        complete(model, branches, Scripted(torch.tensor(tokens)), Limits(STEPS, {0}, lambda _: False))
    differing = []
    for step in range(1, STEPS):
        read = {(branch, *row[:step]) for branch, row in zip(branches, tokens, strict=True) if 0 not in row[:step]}
        differing.append(len(read))
    assert model.seen == [whole_eights(count) for count in differing if count]


def test_branches_idle_until_one_in_twenty_does():
    model = rows_seen(160, distinct=True, leaving={2: 6, 3: 1, 4: 1, 5: 7, 6: 9})
    assert model.seen == [160, 160, 160, 160, 152, 152, 136, 136]
    assert model.copies == 3, "one where they part and one for each time that enough have left"


def test_nothing_is_computed_after_the_last_row_has_ended():
    assert rows_seen(30, distinct=True, leaving={2: 30}).seen == [32, 32]
    assert rows_seen(30, distinct=True, leaving={0: 30}).seen == []


@pytest.mark.parametrize("share", [0, 1 / 20, 0.9, 1])
def test_idle_branches_change_no_completion(share, monkeypatch):
    monkeypatch.setattr("steering.models.decoding._IDLE_SHARE", share)
    sampler = NucleusSampler(uniform_streams(3, 64, STEPS), 1.0, 1.0)
    limits = Limits(STEPS, {0}, enders["after two fives"])
    starts, branches = [[0], [1, 2], [2]], [row % 3 for row in range(64)]
    found = complete(FakeModel([list(start) for start in starts]), branches, sampler, limits)
    assert found == [alone(starts[branch], row, sampler, limits) for row, branch in enumerate(branches)]


@given(st.integers(1, 30))
def test_rows_are_filled_up_by_the_last(count):
    found = filled_up(torch.arange(count) + 5)
    assert len(found) == whole_eights(count)
    assert found.tolist()[:count] == list(range(5, 5 + count))
    assert set(found.tolist()[count:]) <= {count + 4}
