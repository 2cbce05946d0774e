"""Losses under steering as a function of what is added to the residual stream, for methods that follow its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import torch

from steering.concepts import ContrastPair, Side
from steering.models.checks import check_layers
from steering.models.language_model import LanguageModel
from steering.models.outputs import StoredOutput
from steering.models.scored_texts import ScoredTexts
from steering.models.tokens import TokenizedText, tokenize_side
from steering.positions import Positions
from steering.progress import SILENT, Reporter


class SteeredLosses:
    """Mean losses of continuations while a vector is added to one block's output.

    The blocks up to that one run once, when this is made.

    Args:
        model: The model to steer.
        layer: The block.
        texts: Kind of text -> texts.
        positions: Where it is added.
        progress: Where to report.

    Raises:
        UnknownNameError: The model has no such layer.
    """

    def __init__(
        self,
        model: LanguageModel,
        layer: int,
        texts: Mapping[str, Sequence[TokenizedText]],
        *,
        positions: Positions = "prompt",
        progress: Reporter = SILENT,
    ) -> None:
        check_layers([layer], model.layer_count, model.name)
        self._model = model
        self._layer = layer
        self._texts = texts
        self._positions = positions
        self._residuals = {kind: self._read(members, progress) for kind, members in texts.items()}

    def _read(self, texts: Sequence[TokenizedText], progress: Reporter) -> list[torch.Tensor]:
        """The block's output for each text, `[pos, d_model]`."""
        found: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        for batch in self._model.capture([text.ids for text in texts], [self._layer], progress):
            for row, residual, length in zip(batch.rows, batch.residuals[self._layer], batch.lengths, strict=True):
                found[row] = residual[:length].clone()  # what inference mode made can have no gradient
        return found

    def count(self, kind: str) -> int:
        """How many texts there are of a kind."""
        return len(self._texts[kind])

    def __call__(self, kind: str, rows: Sequence[int], addition: torch.Tensor) -> torch.Tensor:
        """Mean over some texts of the mean loss of their continuation tokens.

        Args:
            kind: Of text.
            rows: Which of them.
            addition: `[d_model]`; the loss can be differentiated with respect to it.

        Returns:
            Nats per continuation token, a single number.
        """
        texts = ScoredTexts.stack(self._model, [self._texts[kind][row] for row in rows])
        model = self._model
        added = texts.at(self._positions).unsqueeze(2) * addition.to(model.device, model.dtype)
        unsteered = texts.packed.gathered([self._residuals[kind][row] for row in rows])
        losses = texts.token_losses(model, StoredOutput(self._layer, unsteered + added))
        counts = torch.bincount(texts.rows)
        return torch.zeros(len(rows), device=losses.device).index_add(0, texts.rows, losses).div(counts).mean()


def pair_losses(
    model: LanguageModel,
    layer: int,
    pairs: Sequence[ContrastPair],
    documents: Sequence[TokenizedText],
    *,
    positions: Positions = "prompt",
    progress: Reporter = SILENT,
) -> SteeredLosses:
    """Losses of the two sides of contrast pairs, and of neutral documents, while one layer is steered."""
    sides = {side: [tokenize_side(model.tokenizer, pair, side) for pair in pairs] for side in get_args(Side)}
    return SteeredLosses(model, layer, {**sides, "neutral": documents}, positions=positions, progress=progress)
