"""Generation of many rows together on four architectures, against one row at a time."""

from __future__ import annotations

import copy
import re
from unittest import mock

import numpy as np
import pytest
import torch

from steering.errors import DataError, VectorError
from steering.models.completions import complete
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.sampling import Greedy, NucleusSampler, Sampler, uniform_streams
from steering.models.tokens import TokenizedText
from steering.vectors import Intervention, SteeringVector
from tests.references import Scripted, prompt_ids, steer
from tests.small_models import CONFIGS, small_model, small_module

NEW_TOKENS = 14
COPIES = 4


def choices_of(model: LanguageModel) -> list[Intervention | None]:
    return [
        None,
        steer(model, 0, 2.0),
        steer(model, 1, -4.0, seed=1),
        steer(model, 0, 0.0, seed=2),
        steer(model, 1, 9.0, seed=3),
        steer(model, 0, 2.0, positions="all"),
        steer(model, 1, -3.0, seed=4, positions="all"),
    ]


def stacked(model: LanguageModel) -> tuple[list[list[int]], list[Intervention | None]]:
    """Each prompt under each intervention, several times."""
    pairs = [(prompt, choice) for choice in choices_of(model) for prompt in prompt_ids(model) for _ in range(COPIES)]
    return [prompt for prompt, _ in pairs], [choice for _, choice in pairs]


class Shifted:
    """A sampler whose rows are called `first` and on, as they are within a larger call."""

    def __init__(self, sampler: Sampler, first: int) -> None:
        self._sampler, self._first = sampler, first

    def choose(self, logits: torch.Tensor, branches: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        return self._sampler.choose(logits, branches, rows + self._first, step)


def nucleus(rows: int) -> NucleusSampler:
    return NucleusSampler(uniform_streams(0, rows, NEW_TOKENS), 0.95, 1.3)


def test_rows_generated_together_equal_rows_generated_one_at_a_time(any_model):
    prompts, choices = stacked(any_model)
    sampler = nucleus(len(prompts) // 2)
    together = any_model.generate(prompts, choices, sampler, NEW_TOKENS)
    assert together == [
        any_model.generate([prompt], [choice], Shifted(sampler, row), NEW_TOKENS)[0]
        for row, (prompt, choice) in enumerate(zip(prompts, choices, strict=True))
    ]
    assert len({tuple(completion) for completion in together}) > len(together) // 2, "rows are sampled each by itself"


def test_order_of_rows_changes_no_completion(any_model):
    prompts, choices = stacked(any_model)
    found = any_model.generate(prompts, choices, Greedy(), NEW_TOKENS)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0)).tolist()
    moved = any_model.generate([prompts[row] for row in order], [choices[row] for row in order], Greedy(), NEW_TOKENS)
    assert moved == [found[row] for row in order]


@pytest.mark.parametrize("rows_in_a_chunk", [4, 25])
def test_rows_that_do_not_fit_into_memory_together_complete_the_same(any_model, monkeypatch, rows_in_a_chunk):
    prompts, choices = stacked(any_model)
    sampler = nucleus(len(prompts))
    expected = any_model.generate(prompts, choices, sampler, NEW_TOKENS)
    longest = max(map(len, prompts)) + NEW_TOKENS
    monkeypatch.setattr("steering.models.machine._DECODING_BYTES", 1)
    assert any_model.rows_together(longest) == 1
    monkeypatch.setattr("steering.models.machine._DECODING_BYTES", bytes_of(any_model, longest, rows_in_a_chunk))
    assert any_model.rows_together(longest) == rows_in_a_chunk
    prefill, chunks = any_model._prefill, []

    def counted(rows, width):
        chunks.append(len(rows))
        return prefill(rows, width)

    monkeypatch.setattr(any_model, "_prefill", counted)
    assert any_model.generate(prompts, choices, sampler, NEW_TOKENS) == expected
    assert len(chunks) == -(-len(prompts) // rows_in_a_chunk)


def bytes_of(model: LanguageModel, length: int, rows: int) -> int:
    """Memory of the cache and the logits of some rows, of so many tokens."""
    prefix = model._prefill([((1,) * length, None)], length)
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in prefix.cache.layers) / len(prefix.mask)
    return int((numbers + prefix.logits.shape[1]) * rows * model.dtype.itemsize)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_caches_and_logits_of_rows_together_fit_into_the_memory_that_is_meant_for_them(architecture, monkeypatch):
    model = small_model(architecture)
    for length in (4, 30):
        monkeypatch.setattr("steering.models.machine._DECODING_BYTES", bytes_of(model, length, 5))
        assert model.rows_together(length) <= 5
        if getattr(model.module.config, "sliding_window", None) is None:
            assert model.rows_together(length) == 5


def test_rows_together_take_a_quarter_of_what_is_free_on_a_gpu(llama, monkeypatch):
    on_cpu = llama.rows_together(4)
    monkeypatch.setattr(llama, "device", torch.device("cuda"))
    for name, value in (
        ("mem_get_info", (24 << 30, 80 << 30)),
        ("memory_reserved", 9 << 30),
        ("memory_allocated", 1 << 30),
    ):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda _, value=value: value)
    assert llama.rows_together(4) == pytest.approx(8 * on_cpu, rel=1e-3)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (0, 80 << 30))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 1 << 30)
    assert llama.rows_together(4) == on_cpu, "at least as much as on a CPU"


def test_logits_of_an_apple_gpu_are_sampled_on_the_cpu(llama):
    """Samplers compute in float64, which MPS does not."""
    last = torch.zeros(2, 5)
    on_gpu = mock.MagicMock(device=torch.device("mps"))
    on_gpu.amax.return_value, on_gpu.cpu.return_value = last.amax(dim=-1), last
    logits = mock.MagicMock()
    logits.__getitem__.return_value = on_gpu
    assert llama._sampled(logits) is last


def test_prefill_unembeds_the_last_position_of_each_row_from_memory_of_its_own(any_model, monkeypatch):
    """Of a view, torch copies the unembedding's matrix for each row: a gigabyte for twenty prompts."""
    linear, matrix, seen = torch.nn.functional.linear, any_model.module.get_output_embeddings().weight, []

    def watched(given, weight, bias=None):
        if weight is matrix:
            seen.append(given)
        return linear(given, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    any_model._prefill([((3, 1, 2), None), ((1, 2), None)], 5)
    assert [given.shape[1] for given in seen] == [1]
    assert seen[0].is_contiguous()


def test_a_row_leaves_where_it_is_said_to_and_the_others_go_on(any_model):
    prompts, choices = stacked(any_model)
    sampler = nucleus(len(prompts))
    whole = any_model.generate(prompts, choices, sampler, NEW_TOKENS)

    def ended(completion: list[int]) -> bool:
        return sum(completion) % 3 == 0

    found = any_model.generate(prompts, choices, sampler, NEW_TOKENS, ended=ended)
    cuts = [next((end for end in range(1, len(row) + 1) if ended(row[:end])), len(row)) for row in whole]
    assert found == [row[:cut] for row, cut in zip(whole, cuts, strict=True)]
    assert len(set(cuts)) > 3


def test_alike_rows_are_computed_once(llama, monkeypatch):
    step, seen = llama._decode_step, []

    def counting(rows):
        following = step(rows)

        def counted(ids, *more):
            seen.append(len(ids))
            return following(ids, *more)

        return counted

    monkeypatch.setattr(llama, "_decode_step", counting)
    tokens = torch.ones(60, 4, dtype=torch.int64)
    tokens[:, 1] = torch.arange(60) % 12 + 1
    llama.generate([[1, 2]] * 60, [None] * 60, Scripted(tokens), 4)
    assert seen == [8, 16, 16]


def test_pad_token_of_the_tokenizer_may_lie_outside_of_the_embedding(llama):
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert tokenizer.pad_token_id >= llama.module.config.vocab_size
    model = LanguageModel(small_module("llama"), tokenizer, "small llama")
    rows = [[1, 2, 3], [1, 2]]
    expected = [model.generate([row], [None], Greedy(), 3)[0] for row in rows]
    assert model.generate(rows, [None, None], Greedy(), 3) == expected
    [batch] = model.capture(rows, [0])
    assert batch.lengths == (3, 2)


def test_generation_of_no_rows_is_empty(llama):
    assert llama.generate([], [], Greedy(), 3) == []


@pytest.mark.parametrize(
    ("prompts", "interventions", "told"),
    [
        ([[5, 6]], 2, "1 prompts and 2 interventions: give one of each for every row"),
        ([[5, 6], [7]], 1, "2 prompts and 1 interventions"),
        ([5, 6], 2, "text 0 is 5: give a list of token ids, at least one"),
        (["ab"], 1, "text 0 is 'ab'"),
        ([["a", "b"]], 1, r"text 0 is \['a', 'b'\]"),
        ([[1.5, 2]], 1, r"text 0 is \[1.5, 2\]"),
        ([[5], []], 2, r"text 1 is \[\]"),
        ([[5], [6, 10_000]], 2, "text 1 holds token 10000, which model small-llama does not have: ids are 0 to "),
        ([[-1]], 1, "text 0 holds token -1"),
    ],
)
def test_prompts_that_are_not_one_row_for_each_intervention_are_refused(llama, prompts, interventions, told):
    with pytest.raises(DataError, match=told):
        llama.generate(prompts, [None] * interventions, Greedy(), 3)


def test_token_that_the_model_does_not_have_is_refused_wherever_texts_are_read(any_model):
    """As of a tokenizer to which tokens were added."""
    beyond = any_model.vocabulary_size
    with pytest.raises(DataError, match=f"text 1 holds token {beyond}, which model small-.* does not have: ids"):
        list(any_model.capture([[1, 2], [3, beyond]], [0]))
    with pytest.raises(DataError, match=f"text 0 holds token {beyond}, which"):
        ContinuationLosses(any_model, [TokenizedText((1, beyond, 2), 1)])


@pytest.mark.parametrize("multiplier", [None, "3", [1.0]])
def test_multiplier_that_is_no_number_is_refused(multiplier):
    told = re.escape(f"steering vector m-layer0: its multiplier is {multiplier!r}; give a number")
    with pytest.raises(VectorError, match=told):
        Intervention(SteeringVector(torch.ones(32), 0, "m", "c", "x"), multiplier)


def test_completions_of_no_prompt_are_none_under_each_intervention(llama):
    assert complete(llama, [], [None, None], Greedy(), 3) == [[], []]
    assert complete(llama, [[5]], [], Greedy(), 3) == []


def test_texts_may_be_arrays_of_token_ids(llama):
    [batch] = llama.capture([np.array([5, 6, 7])], [0])
    [expected] = llama.capture([[5, 6, 7]], [0])
    assert torch.equal(batch.residuals[0], expected.residuals[0])


@pytest.mark.parametrize("texts", [[[]], [[], [1, 2]], ["abc"]])
def test_texts_without_token_ids_are_not_read(llama, texts):
    with pytest.raises(DataError, match=r"text 0 is .*: give a list of token ids, at least one"):
        list(llama.capture(texts, [0]))


def test_stream_with_fewer_numbers_than_tokens_is_refused(llama):
    with pytest.raises(DataError, match="there are 2 uniform numbers for each row; a token needs one each"):
        llama.generate([[5]], [None], NucleusSampler(uniform_streams(0, 1, 2), 1.0, 1.0), 3)


@pytest.mark.parametrize("new_tokens", [0, -5])
def test_no_new_tokens_are_refused(llama, new_tokens):
    with pytest.raises(DataError, match=f"{new_tokens} new tokens were asked for; at least 1 is needed"):
        llama.generate([[5]], [None], Greedy(), new_tokens)
