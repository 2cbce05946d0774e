"""Batches of token rows: grouping by length, padding, and rows that need to be computed only once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch


def length_sorted_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group indices into batches of similar length, longest first.

    Args:
        lengths: Tokens of each text.
        token_budget: Upper bound of rows × longest row in a batch; a longer text gets a batch of its own.

    Returns:
        Batches of indices into `lengths`; each index occurs once. Equal lengths keep their order.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Stacked token rows.

    Attributes:
        ids: `[row, pos]`, int64.
        mask: `[row, pos]`, int64: 1 where there is a token, 0 where there is padding.
    """

    ids: torch.Tensor
    mask: torch.Tensor

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What a model is given. The mask may begin before the ids, at positions that are in the model's cache."""
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]
        return {"input_ids": self.ids, "attention_mask": self.mask, "position_ids": positions}

    def to(self, device: torch.device) -> TokenBatch:
        """The same on another device."""
        return TokenBatch(self.ids.to(device), self.mask.to(device))


def pad_right(rows: Sequence[Sequence[int]]) -> TokenBatch:
    """Stack rows, padded on the right to the longest."""
    return _pad(rows, max(len(row) for row in rows), left=False)


def pad_left(rows: Sequence[Sequence[int]], width: int) -> TokenBatch:
    """Stack rows, padded on the left to a width, so that all end at the same position."""
    return _pad(rows, width, left=True)


def _pad(rows: Sequence[Sequence[int]], width: int, *, left: bool) -> TokenBatch:
    # By token 0, whatever the tokenizer says: the mask hides it, and a pad token may lie outside of the embedding.
    ids = torch.zeros((len(rows), width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        filled = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, filled] = torch.tensor(row, dtype=torch.int64)
        mask[index, filled] = 1
    return TokenBatch(ids, mask)


def distinct_rows(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Find rows that are alike.

    Returns:
        The index of the first row of each kind, in their order; and for each row, which kind it is.
    """
    first: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    kinds = {key: kind for kind, key in enumerate(first)}
    return list(first.values()), [kinds[key] for key in keys]
