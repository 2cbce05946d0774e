"""Decoding from what a prefill left.

A steered prompt differs from another only in the keys and values that it left in the cache, so that rows of any
configurations decode in one batch. Rows that are still alike, because they have the same cache and chose the same
tokens so far, are one branch, computed once; a row leaves when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch
from transformers import Cache, PretrainedConfig

from steering.models.machine import release_freed_memory
from steering.models.sampling import Sampler
from steering.progress import Advance

# Where rows are few, matrix products take those beyond a multiple of four by kernels of their own, which add up in
# another order; how few that is grows with the threads. A row must not depend on how many others there are.
_ROWS_MULTIPLE = 8
# Between two returns of free memory to the kernel: each cache is larger than those before, and fits into none of the
# holes that they left.
_STEPS_BETWEEN_RELEASES = 16
# Branches that no row needs any more are computed on until they are so many of all: leaving copies the whole cache.
_IDLE_SHARE = 1 / 20

#: From token ids `[branch, 1]`, an attention mask `[branch, pos]`, a cache, which it extends, and which of the first
#: branches each comes from, `[branch]`, to logits `[branch, vocab]`.
Step = Callable[[torch.Tensor, torch.Tensor, Cache, torch.Tensor], torch.Tensor]
#: Whether a completion, as far as it goes, need not go on.
Ended = Callable[[Sequence[int]], bool]


@dataclass(frozen=True, eq=False)
class Prefix:
    """What reading some prompts left.

    Attributes:
        cache: Keys and values of each branch; decoding changes it.
        mask: `[branch, pos]`, 1 where there is a token.
        logits: Of the next token, `[branch, vocab]`.
    """

    cache: Cache
    mask: torch.Tensor
    logits: torch.Tensor


@dataclass(frozen=True)
class Limits:
    """Where completions end.

    Attributes:
        new_tokens: After so many tokens.
        end_ids: At these tokens, which are left out.
        ended: Where this says so.
    """

    new_tokens: int
    end_ids: Container[int]
    ended: Ended


def numbers_of_a_row(config: PretrainedConfig, length: int) -> int:
    """How many numbers the keys and values of so many tokens, and the logits of one, have."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * length + config.vocab_size)


def filled_up(rows: torch.Tensor) -> torch.Tensor:
    """Repeat the last of some row numbers, up to a number of rows on which a row's result does not depend."""
    missing = -len(rows) % _ROWS_MULTIPLE
    return torch.cat([rows, rows[-1:].expand(missing)]) if missing > 0 else rows


def decode(
    step: Step,
    prefix: Prefix,
    branches: Sequence[int],
    rows: Sequence[int],
    *,
    sampler: Sampler,
    limits: Limits,
    advance: Advance,
) -> list[list[int]]:
    """Complete rows.

    Args:
        step: One forward pass of the model.
        prefix: Of the branches from which the rows start.
        branches: Which of them is each row's.
        rows: What the sampler calls each row.
        sampler: Chooses the tokens.
        limits: Where completions end.
        advance: Told after each token, whose number is the step's.

    Returns:
        The new token ids of each row.
    """
    device = prefix.mask.device
    completions: list[list[int]] = [[] for _ in rows]
    names = torch.tensor(rows, device=device)
    live, branch = torch.arange(len(rows), device=device), torch.tensor(branches, device=device)
    cache, mask, logits = prefix.cache, prefix.mask, prefix.logits
    origins = torch.arange(len(mask), device=device)
    for number in range(limits.new_tokens):
        place = logits.device
        tokens = sampler.choose(logits, branch.to(place), names[live].to(place), number).to(device)
        kept = _append(completions, live.tolist(), tokens.tolist(), limits)
        advance()
        if not kept or number + 1 == limits.new_tokens:
            break
        going = torch.tensor(kept, device=device)
        live = live[going]
        parents, inputs, branch = _branches(branch[going], tokens[going], len(mask))
        if not torch.equal(parents, torch.arange(len(mask), device=device)):
            cache.batch_select_indices(parents)
        origins = origins[parents]
        mask = torch.cat([mask[parents], mask.new_ones(len(parents), 1)], dim=1)
        if (number + 1) % _STEPS_BETWEEN_RELEASES == 0:
            release_freed_memory()
        logits = step(inputs.unsqueeze(1), mask, cache, origins)
    return completions


def _branches(
    branch: torch.Tensor, tokens: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find the rows that stay alike with the tokens that they chose.

    Args:
        branch: `[row]`, what each was so far.
        tokens: `[row]`, what each chose.
        count: How many branches there were.

    Returns:
        For each new branch, which one it continues and with which token; and for each row, which new one it is.
    """
    alike, own = torch.unique(torch.stack([branch, tokens]), dim=1, return_inverse=True)
    parents, inputs = alike
    unbranched = len(parents.unique()) == len(parents)
    if unbranched and count % _ROWS_MULTIPLE == 0 and len(parents) > count * (1 - _IDLE_SHARE):
        kept = torch.zeros(count, dtype=inputs.dtype, device=inputs.device)
        kept[parents] = inputs
        return torch.arange(count, device=inputs.device), kept, parents[own]
    return filled_up(parents), filled_up(inputs), own


def _append(completions: list[list[int]], live: list[int], tokens: list[int], limits: Limits) -> list[int]:
    """Extend the completions; return which of the live rows go on."""
    kept = []
    for index, (row, token) in enumerate(zip(live, tokens, strict=True)):
        if token in limits.end_ids:
            continue
        completions[row].append(token)
        if not limits.ended(completions[row]):
            kept.append(index)
    return kept
