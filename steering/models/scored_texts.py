"""Texts in a batch, and the losses of their continuations' tokens from a block's output on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from steering.models.language_model import LanguageModel
from steering.models.outputs import StoredOutput
from steering.models.packing import PackedTexts, pack
from steering.models.probabilities import cross_entropy
from steering.models.tokens import TokenizedText
from steering.positions import Positions
from steering.vectors import Intervention


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """Texts that the model reads together, and the tokens of their continuations.

    Attributes:
        packed: The texts.
        targets: Ids of the continuation tokens, text after text, `[scored]`.
        before: The token, of those that are packed, that each follows, `[scored]`.
        rows: The text that each is of, `[scored]`.
    """

    packed: PackedTexts
    targets: torch.Tensor
    before: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def stack(cls, model: LanguageModel, texts: Sequence[TokenizedText]) -> ScoredTexts:
        """Put texts into one batch on the model's device."""
        packed = pack(texts)
        scored = [(row, pos) for row, text in enumerate(texts) for pos in range(text.prompt_length, len(text.ids))]
        targets = torch.tensor([texts[row].ids[pos] for row, pos in scored])
        rows, positions = torch.tensor(scored).unbind(dim=1)
        tensors = (targets, packed.token_at[rows, positions - 1], rows)
        return cls(packed.to(model.device), *(tensor.to(model.device) for tensor in tensors))

    def repeated(self, copies: int) -> ScoredTexts:
        """The same texts several times over, one copy after another."""
        numbers = torch.arange(copies, device=self.rows.device).unsqueeze(1)
        before = (self.before + self.packed.ids.numel() * numbers).flatten()
        rows = (self.rows + len(self.packed.token_at) * numbers).flatten()
        return ScoredTexts(self.packed.repeated(copies), self.targets.repeat(copies), before, rows)

    def at(self, positions: Positions) -> torch.Tensor:
        """Where a vector is added that is added at such positions, `[1, token]`."""
        return self.packed.prompt if positions == "prompt" else torch.ones_like(self.packed.prompt)

    def steered(self, interventions: Sequence[Intervention | None]) -> torch.Tensor:
        """Where interventions are added, each to a copy of its own, `[copy, token]`."""
        chosen = [self.at("prompt" if each is None else each.positions) for each in interventions]
        return torch.cat(chosen)

    def token_losses(self, model: LanguageModel, start: StoredOutput) -> torch.Tensor:
        """Cross-entropy of each continuation token, in nats, `[scored]`; the output is `[1, token, d_model]`."""
        return cross_entropy(model.logits(self.packed, self.before, start), self.targets)
