"""Texts whose tokens lie one after another, without padding; a beginning that several texts share is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steering.models.tokens import TokenizedText

# Attention adds up over positions in vectors of at most 16 numbers, and matrix products compute few rows by kernels of
# their own: with multiples of that, a text's numbers do not depend on the texts beside it.
_MULTIPLE = 16
#: Of a text whose attention is computed as matrix products, on a CPU. That of longer ones is rounded otherwise.
MOST_POSITIONS = 128


@dataclass(frozen=True, eq=False)
class PackedTexts:
    """Tokens that are computed, and the texts that they make.

    All but attention is computed token by token, once for each of them; attention needs the texts.

    Attributes:
        ids: Token ids `[1, token]`, int64. A few at the end may repeat the first.
        positions: Of each within its text, `[1, token]`, int64.
        prompt: `[1, token]`, true where a token belongs to a prompt.
        token_at: Which token is where in the texts, `[row, pos]`, int64; the first one where a text has ended.
        place_of: Where a token is in the texts, as row × width + pos, `[token]`, int64; of several, the first.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    prompt: torch.Tensor
    token_at: torch.Tensor
    place_of: torch.Tensor

    @property
    def inputs(self) -> dict[str, Any]:
        """What a model is given, if its attention is `steering.models.attention.attend`."""
        mask = self.ids.new_ones(1, 1, 1, 1)  # with four dimensions, it is taken for a finished one and handed on
        return {"input_ids": self.ids, "position_ids": self.positions, "attention_mask": mask, "packed": self}

    def to(self, device: torch.device) -> PackedTexts:
        """The same on another device."""
        tensors = (self.ids, self.positions, self.prompt, self.token_at, self.place_of)
        return PackedTexts(*(tensor.to(device) for tensor in tensors))

    def repeated(self, copies: int) -> PackedTexts:
        """The texts several times, one copy after another: nothing is shared between copies."""
        count = self.ids.shape[1]
        numbers = torch.arange(copies, device=self.ids.device)
        token_at = (self.token_at + count * numbers[:, None, None]).flatten(0, 1)
        place_of = (self.place_of + self.token_at.numel() * numbers[:, None]).flatten()
        ids, positions, prompt = (tensor.repeat(1, copies) for tensor in (self.ids, self.positions, self.prompt))
        return PackedTexts(ids, positions, prompt, token_at, place_of)

    def by_text(self, states: torch.Tensor) -> torch.Tensor:
        """From `[1, head, token, width]` to `[row, head, pos, width]`."""
        rows, width = self.token_at.shape
        found = states[0].transpose(0, 1).index_select(0, self.token_at.flatten())
        return found.view(rows, width, *found.shape[1:]).transpose(1, 2)

    def by_token(self, states: torch.Tensor) -> torch.Tensor:
        """From `[row, pos, head, width]` to `[1, token, head, width]`."""
        return states.flatten(0, 1).index_select(0, self.place_of).unsqueeze(0)

    def gathered(self, of_texts: Sequence[torch.Tensor]) -> torch.Tensor:
        """From `[pos, d_model]` of each text to `[1, token, d_model]`."""
        lengths = torch.tensor([len(states) for states in of_texts], device=self.place_of.device)
        starts = lengths.cumsum(0) - lengths
        return torch.cat(list(of_texts))[starts[self.place_of // self.token_at.shape[1]] + self.positions]

    def seen(self, window: int | None) -> torch.Tensor | None:
        """Which positions each one sees, `[1, 1, pos, pos]`; None is all up to itself.

        Padding follows the text, so that no token sees it.

        Args:
            window: How many positions back a token sees, itself included; None for all.
        """
        width = self.token_at.shape[1]
        if window is None or window >= width:
            return None
        positions = torch.arange(width, device=self.token_at.device)
        back = positions.unsqueeze(1) - positions
        return ((back >= 0) & (back < window))[None, None]


def pack(texts: Sequence[TokenizedText]) -> PackedTexts:
    """Lay texts one after another, without their last tokens, which predict nothing.

    Args:
        texts: At least one. What two begin with is shared as far as it belongs to both prompts or to neither.
    """
    width = _raised(max(len(text.ids) for text in texts) - 1)
    token_at = torch.zeros(len(texts), width, dtype=torch.int64)
    # The token before, its own id, whether it belongs to a prompt -> its number, and its first place.
    tokens: dict[tuple[int, int, bool], tuple[int, int]] = {}
    for row, text in enumerate(texts):
        chain = [-1]
        for position, own in enumerate(text.ids[:-1]):
            key = (chain[-1], own, position < text.prompt_length)
            chain.append(tokens.setdefault(key, (len(tokens), row * width + position))[0])
        token_at[row, : len(chain) - 1] = torch.tensor(chain[1:])
    filled = [*tokens.items()]
    filled += filled[:1] * (_raised(len(tokens)) - len(tokens))
    ids = torch.tensor([[own for (_, own, _), _ in filled]])
    prompt = torch.tensor([[of_prompt for (_, _, of_prompt), _ in filled]])
    place_of = torch.tensor([place for _, (_, place) in filled])
    return PackedTexts(ids, (place_of % width).unsqueeze(0), prompt, token_at, place_of)


def packed_batches(texts: Sequence[TokenizedText], token_budget: int) -> list[list[int]]:
    """Group texts into batches: those with one prompt together, then by length, longest first.

    Args:
        texts: The texts.
        token_budget: Upper bound of rows × longest row in a batch; a longer text gets a batch of its own.

    Returns:
        Batches of indices into `texts`; each index occurs once.
    """
    widths = [_raised(len(text.ids) - 1) for text in texts]
    prompts = [text.ids[: text.prompt_length] for text in texts]
    longest: dict[tuple[int, ...], int] = {}
    for prompt, width in zip(prompts, widths, strict=True):
        longest[prompt] = max(longest.get(prompt, 0), width)

    def order(index: int) -> tuple[bool, int, tuple[int, ...], int, int]:
        width, prompt = widths[index], prompts[index]
        return width <= MOST_POSITIONS, -longest[prompt], prompt, -width, index

    batches: list[list[int]] = []
    for index in sorted(range(len(texts)), key=order):
        joined = [*batches[-1], index] if batches else [index]
        are_alike = len({widths[each] <= MOST_POSITIONS for each in joined}) == 1
        if batches and are_alike and len(joined) * max(widths[each] for each in joined) <= token_budget:
            batches[-1] = joined
        else:
            batches.append([index])
    return batches


def _raised(count: int) -> int:
    return -(-count // _MULTIPLE) * _MULTIPLE
