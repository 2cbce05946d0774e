"""Texts in a batch, and the losses of their continuations' tokens from a block's output on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from steering.models.batching import TokenBatch
from steering.models.language_model import LanguageModel
from steering.models.outputs import StoredOutput
from steering.models.probabilities import cross_entropy
from steering.models.tokens import TokenizedText
from steering.positions import Positions
from steering.vectors import Intervention

# Attention adds up over positions in vectors of at most 16 numbers: with padding to a multiple of that, a text's loss
# does not depend on the longest text beside it.
WIDTH = 16


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """Texts that the model reads together.

    Attributes:
        tokens: Their tokens.
        prompt: `[row, pos]`, true at prompt positions.
        scored: `[row, pos]`, true at continuation positions.
    """

    tokens: TokenBatch
    prompt: torch.Tensor
    scored: torch.Tensor

    @classmethod
    def stack(cls, model: LanguageModel, texts: Sequence[TokenizedText]) -> ScoredTexts:
        """Put texts into one batch on the model's device."""
        tokens = model.batch([text.ids for text in texts], multiple=WIDTH)
        positions = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
        prompt_lengths = torch.tensor([text.prompt_length for text in texts], device=positions.device)
        prompt = positions < prompt_lengths.unsqueeze(1)
        return cls(tokens, prompt, tokens.mask.bool() & ~prompt)

    def repeated(self, copies: int) -> ScoredTexts:
        """The same texts several times over, one copy after another."""
        prompt, scored = (mask.repeat(copies, 1) for mask in (self.prompt, self.scored))
        return ScoredTexts(self.tokens.repeated(copies), prompt, scored)

    def at(self, positions: Positions) -> torch.Tensor:
        """Where a vector is added that is added at such positions, `[row, pos]`."""
        return self.prompt if positions == "prompt" else self.prompt | self.scored

    def steered(self, interventions: Sequence[Intervention | None]) -> torch.Tensor:
        """Where each row's own intervention is added, `[row, pos]`."""
        everywhere = [each is not None and each.is_everywhere for each in interventions]
        chosen = torch.tensor(everywhere, device=self.prompt.device).unsqueeze(1)
        return torch.where(chosen, self.at("all"), self.at("prompt"))

    def token_losses(self, model: LanguageModel, start: StoredOutput) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of each continuation token, in nats, and the row that it is of; both `[token]`."""
        scored = self.scored[:, 1:]
        logits = model.logits(self.tokens, functional.pad(scored, (0, 1)), start)
        targets = self.tokens.ids[:, 1:][scored]
        return cross_entropy(logits, targets), scored.nonzero()[:, 0]
