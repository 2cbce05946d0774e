"""Choosing the next token: greedily, or from the nucleus by a stream of uniform numbers.

Rollout i consumes row i of one matrix of uniforms, whatever steers it. Two configurations are thereby compared rollout
by rollout (common random numbers), which a paired test turns into power.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

_CANDIDATES = 512


class Sampler(Protocol):
    """Chooses one token for each row of a batch."""

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Return token ids `[row]` for float32 logits `[row, vocab]` at generation step `step`, from 0."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The most probable token; the lowest id among equals."""

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:  # noqa: ARG002 - the protocol's signature
        """Return the arg max of each row."""
        return logits.argmax(dim=-1)


@dataclass(frozen=True)
class NucleusSampler:
    """Top-p sampling (Holtzman et al. 2020) by inversion of the cumulative distribution.

    Attributes:
        uniforms: `[row, step]` in [0, 1), from `uniform_streams`.
        top_p: The nucleus is the smallest set of most probable tokens whose probability reaches this.
        temperature: Divides the logits.
    """

    uniforms: torch.Tensor
    top_p: float
    temperature: float

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Sample one token for each row; see `sample_nucleus`."""
        return sample_nucleus(logits / self.temperature, self.uniforms[:, step].to(logits.device), self.top_p)


def uniform_streams(seed: int, rows: int, steps: int) -> torch.Tensor:
    """Uniform numbers `[row, step]`, float64; row i does not depend on how many rows are asked for."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=seed)).random((rows, steps)))


def sample_nucleus(logits: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> torch.Tensor:
    """Sample a token from each row's nucleus, exactly, without sorting the vocabulary where that can be avoided.

    The most probable `_CANDIDATES` tokens nearly always hold the nucleus. Rows where they do not are sorted whole.

    Args:
        logits: `[row, vocab]`, temperature applied.
        uniforms: `[row]` in [0, 1).
        top_p: In (0, 1].

    Returns:
        Token ids `[row]`.
    """
    log_total = torch.logsumexp(logits.double(), dim=-1, keepdim=True)
    count = min(_CANDIDATES, logits.shape[-1])
    values, tokens = _descending(*torch.topk(logits, count, dim=-1))
    cumulative = torch.exp(values.double() - log_total).cumsum(dim=-1)
    # Tokens as probable as the last candidate may have been left out: only what is above them is complete.
    complete = (values > values[:, -1:]).sum(dim=-1, keepdim=True)
    reached = torch.gather(cumulative, 1, (complete - 1).clamp(min=0))
    enough = ((complete > 0) & (reached >= top_p)).squeeze(1)
    chosen = _invert(cumulative, tokens, uniforms, top_p)
    if not bool(enough.all()):
        wide = ~enough
        values, tokens = torch.sort(logits[wide], dim=-1, descending=True, stable=True)
        cumulative = torch.exp(values.double() - log_total[wide]).cumsum(dim=-1)
        chosen[wide] = _invert(cumulative, tokens, uniforms[wide], top_p)
    return chosen


def _descending(values: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Order by falling value, equal values by rising token id, as a stable full sort would."""
    tokens, order = torch.sort(tokens, dim=-1)
    values, order = torch.sort(values.gather(1, order), dim=-1, descending=True, stable=True)
    return values, tokens.gather(1, order)


def _invert(cumulative: torch.Tensor, tokens: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return the token at which the cumulative probability first exceeds uniform × the nucleus's probability."""
    threshold = torch.full_like(uniforms, top_p).unsqueeze(1)
    last = torch.searchsorted(cumulative, threshold).clamp(max=cumulative.shape[1] - 1)
    mass = cumulative.gather(1, last)
    index = torch.searchsorted(cumulative, uniforms.unsqueeze(1) * mass, right=True)
    return tokens.gather(1, torch.minimum(index, last)).squeeze(1)
