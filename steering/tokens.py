"""Texts as token ids, with the boundary between prompt and continuation, and batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from steering.errors import DataError


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of a whole text.

    Attributes:
        ids: Prompt and continuation.
        prompt_length: How many of `ids` belong to the prompt (a token that a tokenizer puts in front included).
    """

    ids: tuple[int, ...]
    prompt_length: int

    def __post_init__(self) -> None:
        """Refuse a text without a prompt token or without a continuation token."""
        if not 0 < self.prompt_length < len(self.ids):
            raise DataError(
                f"a text of {len(self.ids)} tokens with {self.prompt_length} prompt tokens: "
                "both the prompt and the continuation need at least one"
            )


def tokenize_continuation(tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str) -> TokenizedText:
    """Tokenize `prompt + " " + continuation` as one text and find where the continuation begins.

    The boundary comes from character offsets, because a continuation tokenized alone can give other tokens than it
    has in its context. A token that reaches beyond the prompt's last character belongs to the continuation.

    Raises:
        DataError: One side has no token.
    """
    encoding = tokenizer(f"{prompt} {continuation}", return_offsets_mapping=True)
    ends = [end for _, end in encoding["offset_mapping"]]
    ids = list(encoding["input_ids"])
    while ends and ends[-1] == 0:  # a token that closes a sequence, as some tokenizers add, is no text
        ends.pop()
        ids.pop()
    boundary = next((index for index, end in enumerate(ends) if end > len(prompt)), len(ids))
    return TokenizedText(tuple(ids), boundary)


def tokenize_document(
    tokenizer: PreTrainedTokenizerBase, text: str, prompt_tokens: int, continuation_tokens: int
) -> TokenizedText:
    """Take a document's first tokens as the prompt and those that follow as the continuation.

    A document with fewer than `prompt_tokens` + 1 tokens is divided in the middle.

    Raises:
        DataError: The document has fewer than two tokens.
    """
    ids = tuple(tokenizer(text)["input_ids"][: prompt_tokens + continuation_tokens])
    if len(ids) < 2:
        raise DataError(f"neutral document {text[:40]!r} has {len(ids)} tokens; at least 2 are needed")
    return TokenizedText(ids, prompt_tokens if len(ids) > prompt_tokens else len(ids) // 2)


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


def pad_right(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack rows, padded on the right.

    Returns:
        ids `[row, pos]` and attention mask `[row, pos]`, both int64.
    """
    return _pad(rows, pad_id, left=False)


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack rows, padded on the left, so that all end at the same position; as `pad_right` otherwise."""
    return _pad(rows, pad_id, left=True)


def _pad(rows: Sequence[Sequence[int]], pad_id: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        filled = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, filled] = torch.tensor(row, dtype=torch.int64)
        mask[index, filled] = 1
    return ids, mask
