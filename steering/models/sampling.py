"""Choosing the next token: greedily, or from the nucleus by a stream of uniform numbers.

Rollout i consumes row i of one matrix of uniforms, whatever steers it. Two configurations are thereby compared rollout
by rollout (common random numbers), which a paired test turns into power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from steering.errors import DataError
from steering.models.probabilities import by_rows, log_sum_exp_

#: Below, logits divided by it may be beyond every number.
LOWEST_TEMPERATURE = 1e-6
#: How many of the most probable tokens are looked at first, and then in the rows whose nucleus is wider.
_WIDTHS = (128, 1024)


class Sampler(Protocol):
    """Chooses a token for each row of a batch; rows that are still alike share a distribution."""

    def choose(self, logits: torch.Tensor, branches: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        """Choose the next tokens.

        Args:
            logits: `[branch, vocab]`.
            branches: `[row]`, which of the distributions is each row's.
            rows: `[row]`, which of the caller's rows each is; fewer as rows end.
            step: Of generation, from 0.

        Returns:
            Token ids `[row]`.
        """
        ...


@dataclass(frozen=True)
class Greedy:
    """The most probable token; the lowest id among equals."""

    def choose(self, logits: torch.Tensor, branches: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:  # noqa: ARG002 - the protocol's signature
        """Return the arg max of each row."""
        return logits.argmax(dim=-1)[branches]


@dataclass(frozen=True)
class NucleusSampler:
    """Top-p sampling (Holtzman et al. 2020) by inversion of the cumulative distribution.

    Attributes:
        uniforms: `[row, step]` in [0, 1), from `uniform_streams`; it is used again from its first row when there are
            more rows than it has, as those of several configurations.
        top_p: The nucleus is the smallest set of most probable tokens whose probability reaches this.
        temperature: Divides the logits.
    """

    uniforms: torch.Tensor
    top_p: float
    temperature: float

    def __post_init__(self) -> None:
        """Refuse what is no distribution; `Greedy` is the limit of temperature 0."""
        if not LOWEST_TEMPERATURE <= self.temperature < math.inf:
            raise DataError(f"temperature is {self.temperature}; it must be finite and at least {LOWEST_TEMPERATURE:f}")
        if not 0 < self.top_p <= 1:
            raise DataError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.uniforms.ndim != 2 or not len(self.uniforms):
            shape = tuple(self.uniforms.shape)
            raise DataError(f"uniform numbers have the shape {shape}; [row, step] with at least one row is needed")

    def choose(self, logits: torch.Tensor, branches: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        """Sample one token for each row; see `sample_nucleus`.

        Raises:
            DataError: There are fewer uniform numbers than steps.
        """
        if step >= self.uniforms.shape[1]:
            raise DataError(f"there are {self.uniforms.shape[1]} uniform numbers for each row; a token needs one each")
        drawn = self.uniforms[rows.to(self.uniforms.device) % len(self.uniforms), step]
        return sample_nucleus(logits, drawn.to(logits.device), self.top_p, self.temperature, branches)


def uniform_streams(seed: int, rows: int, steps: int, stream: int = 0) -> torch.Tensor:
    """Uniform numbers `[row, step]`, float64; row i does not depend on how many rows are asked for.

    Args:
        seed: 0 or more.
        rows: How many rollouts.
        steps: Tokens of each.
        stream: Those of one seed with different numbers have nothing in common.
    """
    bits = np.random.Philox(key=seed)
    return torch.from_numpy(np.random.Generator(bits.jumped(stream) if stream else bits).random((rows, steps)))


def sample_nucleus(
    logits: torch.Tensor,
    uniforms: torch.Tensor,
    top_p: float,
    temperature: float = 1.0,
    branches: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sample tokens from nuclei, exactly, without sorting the vocabulary where that can be avoided.

    The few most probable tokens nearly always hold the nucleus. The rows where they do not are looked at more widely,
    and at last sorted whole.

    Args:
        logits: `[branch, vocab]`.
        uniforms: `[row]` in [0, 1).
        top_p: In (0, 1].
        temperature: Divides the logits.
        branches: `[row]`, which of the distributions is each row's; by default row i's is the i-th.

    Returns:
        Token ids `[row]`.
    """
    if branches is None:
        branches = torch.arange(len(logits), device=logits.device)
    log_total = _log_total(logits, temperature)
    chosen = torch.empty_like(branches)
    pending = torch.arange(len(logits), device=logits.device)
    for width in (*_WIDTHS, logits.shape[1]):
        whole = len(pending) == len(logits)
        seen = (logits, log_total) if whole else (logits[pending], log_total[pending])
        cumulative, tokens, enough = _candidates(*seen, width, top_p, temperature)
        place = torch.full((len(logits),), -1, device=logits.device)
        place[pending[enough]] = torch.nonzero(enough).squeeze(1)
        found = place[branches] >= 0
        source = place[branches[found]]
        chosen[found] = _invert(cumulative[source], tokens[source], uniforms[found], top_p)
        pending = pending[~enough]
        if len(pending) == 0:
            break
    return chosen


def _log_total(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logarithm of the sum of exponentials of each row `[branch, 1]`, float64."""
    return by_rows(lambda rows: log_sum_exp_(_scaled(rows, temperature)), logits).double().unsqueeze(1)


def _candidates(
    logits: torch.Tensor, log_total: torch.Tensor, width: int, top_p: float, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cumulative probabilities and ids of the most probable tokens, and whether they hold the whole nucleus."""
    if width >= logits.shape[1]:
        values, tokens = torch.sort(logits, dim=-1, descending=True, stable=True)
        enough = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        return _cumulative(values, log_total, temperature), tokens, enough
    values, tokens = _descending(*torch.topk(logits, width, dim=-1))
    cumulative = _cumulative(values, log_total, temperature)
    # Tokens as probable as the last candidate may have been left out: only what is above them is complete.
    complete = (values > values[:, -1:]).sum(dim=-1, keepdim=True)
    reached = torch.gather(cumulative, 1, (complete - 1).clamp(min=0))
    return cumulative, tokens, ((complete > 0) & (reached >= top_p)).squeeze(1)


def _cumulative(values: torch.Tensor, log_total: torch.Tensor, temperature: float) -> torch.Tensor:
    return torch.exp(_scaled(values, temperature).double() - log_total).cumsum(dim=-1)


def _scaled(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    scaled = logits.to(torch.float32, copy=True)
    return scaled if temperature == 1 else scaled.div_(temperature)


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
