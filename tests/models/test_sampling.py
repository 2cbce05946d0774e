"""Nucleus sampling against a full sort in numpy, and the streams of uniform numbers that drive it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from steering.errors import DataError
from steering.models.sampling import _WIDTHS, Greedy, NucleusSampler, Sampler, sample_nucleus, uniform_streams

LARGEST = np.nextafter(1.0, 0.0)
# Relative error of a total of probabilities that is rounded to float32 as the logits are.
ROUNDING = 1e-5
KINDS = ("spread", "bfloat16", "integers", "two values", "flat", "dominant", "plateau")


def logits_of(kind: str, vocabulary: int, generator: np.random.Generator) -> np.ndarray:
    values = generator.normal(0.0, 3.0, vocabulary).astype(np.float32)
    if kind == "bfloat16":
        values = torch.from_numpy(values).bfloat16().float().numpy()
    elif kind == "integers":
        values = np.round(values)
    elif kind == "two values":
        values = np.where(values > 0, np.float32(1), np.float32(0))
    elif kind == "flat":
        values = np.full(vocabulary, -3.5, dtype=np.float32)
    elif kind == "dominant":
        values[generator.integers(vocabulary)] = 40.0
    elif kind == "plateau":  # some tokens above, and equal ones on both sides of the last candidate
        values = np.where(generator.random(vocabulary) < 0.2, np.abs(values) + 1, np.float32(0))
    return values.astype(np.float32)


def stack(kinds: list[str], vocabulary: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([logits_of(kind, vocabulary, generator) for kind in kinds])


def ranked(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Token ids by falling logit, equal ones by rising id, and their probabilities."""
    order = np.lexsort((np.arange(len(logits)), -logits.astype(np.float64)))
    weights = np.exp(logits[order].astype(np.float64) - float(logits.max()))
    return order, weights / weights.sum()


def nucleus(logits: np.ndarray, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the nucleus and their renormalised probabilities."""
    order, probabilities = ranked(logits)
    reached = np.flatnonzero(np.cumsum(probabilities) >= top_p)
    size = int(reached[0]) + 1 if len(reached) else len(order)
    return order[:size], probabilities[:size] / probabilities[:size].sum()


def acceptable(logits: np.ndarray, uniform: float, top_p: float) -> np.ndarray:
    """Tokens that rounding of either sum can lead to: nearly always exactly one."""
    ranks = []
    for slack in (-ROUNDING, 0.0, ROUNDING):
        _, probabilities = nucleus(logits, top_p * (1 + slack))
        edges = np.cumsum(probabilities)
        points = (uniform - 1e-9, uniform + 1e-9)
        ranks += [min(int((edges <= point).sum()), len(edges) - 1) for point in points]
    order, _ = ranked(logits)
    return order[min(ranks) : max(ranks) + 1]


def sample(
    logits: np.ndarray,
    uniforms: np.ndarray,
    top_p: float,
    branches: np.ndarray | None = None,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    given = None if branches is None else torch.from_numpy(branches)
    tensor = torch.from_numpy(logits).to(dtype)
    return sample_nucleus(tensor, torch.from_numpy(uniforms), top_p, branches=given).numpy()


def choose(sampler: Sampler, logits: torch.Tensor, step: int = 0) -> torch.Tensor:
    """A token for each distribution, every row having its own."""
    rows = torch.arange(len(logits))
    return sampler.choose(logits, rows, rows, step)


vocabularies = st.one_of(
    st.integers(2, 12), *(st.integers(width - 3, width + 3) for width in _WIDTHS), st.integers(2, 2000)
)
uniform_values = st.one_of(st.floats(0, float(LARGEST)), st.sampled_from([0.0, 0.5, float(LARGEST)]))
top_ps = st.one_of(st.floats(0.01, 1.0), st.sampled_from([0.01, 0.5, 1.0]))


@given(
    vocabulary=vocabularies,
    rows=st.lists(st.tuples(st.sampled_from(KINDS), uniform_values), min_size=1, max_size=8),
    top_p=top_ps,
    seed=st.integers(0, 2**32 - 1),
)
@example(2000, [(kind, 0.999) for kind in KINDS], 0.95, 1)
@example(2000, [(kind, 0.4) for kind in KINDS], 1.0, 2)
@example(_WIDTHS[0], [(kind, float(LARGEST)) for kind in KINDS], 1.0, 3)
@example(_WIDTHS[1], [(kind, float(LARGEST)) for kind in KINDS], 1.0, 4)
def test_sampling_equals_a_full_sort(vocabulary, rows, top_p, seed):
    logits = stack([kind for kind, _ in rows], vocabulary, seed)
    uniforms = np.array([uniform for _, uniform in rows])
    for row, token in enumerate(sample(logits, uniforms, top_p)):
        assert token in acceptable(logits[row], uniforms[row], top_p)


@given(
    vocabulary=vocabularies,
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    rows=st.lists(st.tuples(st.integers(0, 5), uniform_values), max_size=12),
    top_p=top_ps,
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**32 - 1),
)
@example(2000, list(KINDS), [(branch % len(KINDS), 0.9) for branch in range(40)], 0.95, torch.bfloat16, 1)
@example(1100, ["flat", "dominant", "spread"], [(2, 0.99), (0, 0.99), (2, 0.1), (0, 0.1)], 0.9, torch.float32, 2)
def test_rows_that_share_distributions_sample_each_from_its_own(vocabulary, kinds, rows, top_p, dtype, seed):
    logits = stack(kinds, vocabulary, seed)
    branches = np.array([branch % len(kinds) for branch, _ in rows], dtype=np.int64)
    uniforms = np.array([uniform for _, uniform in rows], dtype=np.float64)
    seen = torch.from_numpy(logits).to(dtype).float().numpy()  # what is left of them in the dtype
    found = sample(logits, uniforms, top_p, branches, dtype)
    assert found.shape == branches.shape
    for token, branch, uniform in zip(found, branches, uniforms, strict=True):
        assert token in acceptable(seen[branch], uniform, top_p)


@given(kind=st.sampled_from(KINDS), vocabulary=vocabularies, top_p=top_ps, seed=st.integers(0, 2**32 - 1))
def test_the_nucleus_is_walked_from_its_most_to_its_least_probable_token(kind, vocabulary, top_p, seed):
    logits = stack([kind], vocabulary, seed)
    uniforms = np.append(np.linspace(0, 1, 40, endpoint=False), LARGEST)
    tokens = sample(np.repeat(logits, len(uniforms), axis=0), uniforms, top_p)
    order, _ = ranked(logits[0])
    rank = np.argsort(order)[tokens]
    assert (np.diff(rank) >= 0).all()
    assert tokens[0] == order[0]
    assert set(tokens) <= set(nucleus(logits[0], top_p * (1 + ROUNDING))[0])


@pytest.mark.parametrize("above", [0, 60, 300, *(width + more for width in _WIDTHS for more in (-1, 0, 1))])
def test_equal_tokens_around_the_last_candidate_enter_the_nucleus_by_id(above):
    logits = np.zeros(1500, dtype=np.float32)
    logits[np.random.default_rng(0).permutation(1500)[:above]] = 1.0
    probability = 1 / (1500 - above + above * np.e)
    top_p = above * np.e * probability + 100.5 * probability
    expected = np.concatenate([np.flatnonzero(logits == 1), np.flatnonzero(logits == 0)[:101]])
    uniforms = np.linspace(0, LARGEST, 4000)
    assert set(sample(np.tile(logits, (4000, 1)), uniforms, top_p)) == set(expected)


@pytest.mark.parametrize(("kind", "vocabulary"), [("spread", 30), ("integers", 30), ("flat", 703), ("spread", 700)])
def test_frequencies_are_the_renormalised_probabilities(kind, vocabulary):
    logits = stack([kind], vocabulary, 4) / 3
    tokens, probabilities = nucleus(logits[0], 0.9)
    draws = 8000
    found = sample(np.repeat(logits, draws, axis=0), uniform_streams(1, draws, 1)[:, 0].numpy(), 0.9)
    counts = np.bincount(found, minlength=vocabulary)
    assert counts.sum() == counts[tokens].sum()
    assert chisquare(counts[tokens], draws * probabilities).pvalue > 1e-3


def test_rows_of_a_batch_do_not_influence_each_other():
    logits = stack(list(KINDS), 1200, 8)
    uniforms = uniform_streams(5, len(KINDS), 1)[:, 0].numpy()
    alone = [sample(logits[row : row + 1], uniforms[row : row + 1], 0.97)[0] for row in range(len(KINDS))]
    assert sample(logits, uniforms, 0.97).tolist() == alone


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30), more=st.integers(0, 30), steps=st.integers(1, 20))
def test_a_stream_does_not_depend_on_how_many_there_are(seed, rows, more, steps):
    few = uniform_streams(seed, rows, steps)
    assert few.shape == (rows, steps)
    assert few.dtype == torch.float64
    assert torch.equal(uniform_streams(seed, rows + more, steps)[:rows], few)
    assert not torch.equal(uniform_streams(seed + 1, rows, steps), few)


def test_splits_have_no_random_number_in_common():
    assert not np.intersect1d(uniform_streams(0, 40, 40, 0), uniform_streams(0, 40, 40, 1)).size


def test_number_on_the_border_of_two_tokens_takes_the_second():
    assert sample_nucleus(torch.zeros(4, 4), torch.tensor([0.0, 0.25, 0.5, 0.75]), 1.0).tolist() == [0, 1, 2, 3]


def test_streams_are_uniform_from_0_to_below_1():
    values = uniform_streams(3, 1000, 40).numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert kstest(values.ravel(), "uniform").pvalue > 1e-3
    assert len(np.unique(values)) == values.size


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(0, 4))
def test_row_i_draws_the_uniforms_of_its_own_name(names, step):
    """Also where it has left rows before it behind, and where names go on beyond the streams, configuration by
    configuration."""
    uniforms = uniform_streams(1, 3, 5)
    logits = torch.zeros(1, 100)  # token i stands for uniforms from i / 100 on
    rows = torch.tensor(names) + 3 * torch.arange(len(names))
    found = NucleusSampler(uniforms, 1.0, 1.0).choose(logits, torch.zeros_like(rows), rows, step)
    expected = [int(uniforms[name, step] * 100) for name in names]
    assert np.abs(found.numpy() - expected).max() == 0


def test_greedy_rows_follow_their_distribution():
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    branches = torch.tensor([1, 1, 0, 1])
    assert Greedy().choose(logits, branches, torch.tensor([9, 4, 5, 6]), 0).tolist() == [0, 0, 1, 0]


def test_greedy_takes_the_lowest_id_among_equals():
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [-2.0, -3.0, -2.0, -1.5]])
    assert choose(Greedy(), logits).tolist() == [1, 0, 3]
    tied = stack(["two values"] * 20 + ["integers"] * 20, 5000, 0)
    assert choose(Greedy(), torch.from_numpy(tied), 3).tolist() == tied.argmax(axis=1).tolist()


@given(
    temperature=st.floats(0.1, 4.0),
    vocabulary=st.sampled_from([60, _WIDTHS[0] + 1, _WIDTHS[1] + 1]),
    seed=st.integers(0, 2**32 - 1),
    step=st.integers(0, 4),
)
def test_temperature_divides_the_logits_and_each_step_has_its_own_uniforms(temperature, vocabulary, seed, step):
    uniforms = uniform_streams(seed, 12, 5)
    logits = stack(["spread"] * 12, vocabulary, seed)
    found = choose(NucleusSampler(uniforms, 0.95, temperature), torch.from_numpy(logits), step)
    scaled = (logits / np.float32(temperature)).astype(np.float32)
    for row, token in enumerate(found.tolist()):
        # One more rounding of the logits is allowed for.
        near = [acceptable(scaled[row], float(uniforms[row, step]) + shift, 0.95) for shift in (-1e-6, 0.0, 1e-6)]
        assert token in np.concatenate(near)


def test_a_very_low_temperature_is_greedy():
    generator = np.random.default_rng(0)
    logits = torch.from_numpy(np.stack([generator.permutation(800) / 100 for _ in range(50)]).astype(np.float32))
    sampler = NucleusSampler(uniform_streams(0, 50, 1), 1.0, 1e-4)
    assert torch.equal(choose(sampler, logits), choose(Greedy(), logits))


def test_a_very_small_top_p_is_greedy():
    logits = torch.from_numpy(stack(list(KINDS), 900, 6))
    sampler = NucleusSampler(uniform_streams(0, len(KINDS), 1), 1e-6, 1.0)
    assert torch.equal(choose(sampler, logits), choose(Greedy(), logits))


@pytest.mark.parametrize("temperature", [0.0, 1e-39, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(DataError, match=f"temperature is {temperature}; it must be finite and at least 0.000001"):
        NucleusSampler(uniform_streams(0, 1, 1), 0.8, temperature)


@pytest.mark.parametrize("shape", [(0, 3), (4,)])
def test_uniform_numbers_of_no_row_are_refused(shape):
    with pytest.raises(
        DataError, match=re.escape(f"uniform numbers have the shape {shape}; [row, step] with at least")
    ):
        NucleusSampler(torch.zeros(shape), 1.0, 1.0)


@pytest.mark.parametrize("top_p", [0.0, -1.0, 2.0, float("nan")])
def test_a_top_p_that_is_no_share_is_refused(top_p):
    with pytest.raises(DataError, match=f"top_p is {top_p}; it must be above 0 and at most 1"):
        NucleusSampler(uniform_streams(0, 1, 1), top_p, 1.0)
