"""Losses of continuations under many interventions, each from where the steered run departs from the unsteered one.

Below the steered block nothing changes. Its output for the unsteered texts is stored, computed once for all
interventions, and each of them goes on from there; what is stored moves up as the layers asked for do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch

from steering.errors import NonFiniteError
from steering.models.checks import check_interventions, check_layers, check_lengths, check_texts
from steering.models.edits import Change, adding, at_positions
from steering.models.language_model import LanguageModel
from steering.models.outputs import StoredOutput
from steering.models.packing import packed_batches
from steering.models.scored_texts import ScoredTexts
from steering.models.tokens import TokenizedText
from steering.progress import SILENT, Advance, Reporter
from steering.vectors import Intervention


class ContinuationLosses:
    """Mean cross-entropy of each text's continuation.

    The first continuation token counts: it is predicted at the last prompt position, which steering reaches most
    directly.

    Args:
        model: The model to steer.
        texts: Texts with their prompt boundary.
        kind: What they are called where progress is told.

    Raises:
        DataError: A text is empty, longer than the model's context, or holds a token that it does not have.
    """

    def __init__(self, model: LanguageModel, texts: Sequence[TokenizedText], kind: str = "") -> None:
        self._model = model
        self._task = " ".join(filter(None, ("measuring", kind, "losses")))
        self._count = len(texts)
        lengths = [len(text.ids) for text in texts]
        check_lengths(lengths, model.length_limit, model.name)
        check_texts([text.ids for text in texts], model.vocabulary_size, model.name)
        self._rows = packed_batches(texts, model.token_budget)
        self._batches = [ScoredTexts.stack(model, [texts[row] for row in rows]) for rows in self._rows]
        self._stored: list[StoredOutput | None] = [None] * len(self._batches)

    def measure(self, interventions: Sequence[Intervention | None], progress: Reporter = SILENT) -> np.ndarray:
        """Measure the losses under each of some interventions; None leaves the model as it is.

        Returns:
            Nats per continuation token `[intervention, text]`, float64.

        Raises:
            VectorError: A vector does not fit the model.
            NonFiniteError: A loss is NaN or infinite.
        """
        model = self._model
        check_interventions(interventions, model.layer_count, model.d_model, model.name)
        losses = np.empty((len(interventions), self._count))
        with self._work(progress, len(interventions)) as advance:
            for number, (rows, batch) in enumerate(zip(self._rows, self._batches, strict=True)):
                for layer, members in self._stacks(interventions, batch):
                    chosen = [interventions[member] for member in members]
                    edits = adding(model.additions(chosen), batch.steered(chosen))
                    changes = [change for _, change in edits]
                    losses[np.ix_(members, rows)] = self._continue(number, layer, changes, len(members))
                    advance(len(members) * len(rows))
        return self._finite(losses)

    def replaced(
        self, layer: int, replace: Callable[[torch.Tensor], torch.Tensor], progress: Reporter = SILENT
    ) -> np.ndarray:
        """Measure the losses with the output of one block replaced at all positions but the first.

        Args:
            layer: The block.
            replace: From `[1, token, d_model]` to the same shape; the first position of a text keeps what it had,
                because it is an attention sink that nothing trained on activations has seen.
            progress: Where to report.

        Returns:
            Nats per continuation token `[text]`, float64.

        Raises:
            UnknownNameError: The model has no such layer.
            NonFiniteError: A loss is NaN or infinite.
        """
        check_layers([layer], self._model.layer_count, self._model.name)
        losses = np.empty(self._count)
        with self._work(progress, 1) as advance:
            for number, rows in enumerate(self._rows):
                later = self._batches[number].packed.positions[0] > 0
                losses[rows] = self._continue(number, layer, [at_positions(later, replace)], 1)[0]
                advance(len(rows))
        return self._finite(losses)

    def _work(self, progress: Reporter, passes: int) -> AbstractContextManager[Advance]:
        return progress.work(self._task, passes * self._count)

    def _stacks(
        self, interventions: Sequence[Intervention | None], texts: ScoredTexts
    ) -> Iterator[tuple[int, list[int]]]:
        """Interventions that are measured together, lowest layer first: as many of one layer as fill a batch.

        The unsteered run changes nothing at block 0.
        """
        layers = [0 if intervention is None else intervention.vector.layer for intervention in interventions]
        together = max(1, self._model.token_budget // texts.packed.token_at.numel())
        for layer in sorted(set(layers)):
            members = [index for index, found in enumerate(layers) if found == layer]
            for first in range(0, len(members), together):
                yield layer, members[first : first + together]

    @torch.inference_mode()
    def _continue(self, number: int, layer: int, changes: Sequence[Change], copies: int) -> np.ndarray:
        """Losses `[copy, text]` of copies of a batch of texts, from a block's output repeated and changed."""
        residual = self._output(number, layer).repeat(copies, 1, 1)
        for change in changes:
            residual = change(residual)
        texts = self._batches[number].repeated(copies)
        start = StoredOutput(layer, residual.flatten(0, 1).unsqueeze(0))
        token_losses, rows = (found.cpu().numpy() for found in (texts.token_losses(self._model, start), texts.rows))
        means = np.bincount(rows, token_losses.astype(np.float64)) / np.bincount(rows)
        return means.reshape(copies, -1)

    def _output(self, number: int, layer: int) -> torch.Tensor:
        """Output of a block for a batch of unsteered texts, from the stored one where that lies below."""
        stored = self._stored[number]
        if stored is None or stored.layer != layer:
            below = stored if stored is not None and stored.layer < layer else None
            residual = self._model.outputs(self._batches[number].packed, [layer], below)[layer]
            stored = self._stored[number] = StoredOutput(layer, residual)
        return stored.residual

    def _finite(self, losses: np.ndarray) -> np.ndarray:
        if not np.isfinite(losses).all():
            index = int(np.argwhere(~np.isfinite(losses))[0][-1])
            value = losses[~np.isfinite(losses)][0]
            raise NonFiniteError(f"model {self._model.name}: the loss of text {index} is {value}; {self._model.remedy}")
        return losses
