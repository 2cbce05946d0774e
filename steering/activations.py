"""From contrast pairs to activations: what the construction methods see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from steering.concepts import ContrastPair
from steering.errors import NonFiniteError, SteeringError, UnknownNameError
from steering.model import LanguageModel
from steering.progress import Reporter
from steering.tokens import tokenize_continuation


@dataclass(frozen=True, eq=False)
class ContrastActivations:
    """Residual streams of the two sides of contrast pairs, at the last token of each text.

    Attributes:
        positive: `[pair, layer, d_model]`, float32.
        negative: The same for the other side.
        layers: Blocks that the second axis stands for.
        pair_ids: What the first axis stands for.
        concept: Name of the concept.
        model: Name of the model.
    """

    positive: torch.Tensor
    negative: torch.Tensor
    layers: tuple[int, ...]
    pair_ids: tuple[str, ...]
    concept: str
    model: str

    def __post_init__(self) -> None:
        """Refuse shapes that disagree, no pairs at all, and non-finite values."""
        shape = (len(self.pair_ids), len(self.layers))
        if self.positive.shape != self.negative.shape or self.positive.shape[:2] != shape or self.positive.ndim != 3:
            raise SteeringError(
                f"activations of shape {tuple(self.positive.shape)} and {tuple(self.negative.shape)} "
                f"for {shape[0]} pairs and {shape[1]} layers; [pair, layer, d_model] is required"
            )
        if not self.pair_ids:
            raise SteeringError("activations of no pairs: a vector needs at least one")
        for side in (self.positive, self.negative):
            if not bool(torch.isfinite(side).all()):
                pair, layer = torch.nonzero(~torch.isfinite(side).all(dim=2))[0].tolist()
                raise NonFiniteError(f"pair {self.pair_ids[pair]!r}, layer {self.layers[layer]}: NaN or infinity")

    def at(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the positive and the negative side `[pair, d_model]` at one layer.

        Raises:
            UnknownNameError: The layer was not captured.
        """
        if layer not in self.layers:
            raise UnknownNameError("captured layer", str(layer), map(str, self.layers))
        index = self.layers.index(layer)
        return self.positive[:, index], self.negative[:, index]


def capture_pairs(
    model: LanguageModel,
    pairs: Sequence[ContrastPair],
    layers: Sequence[int],
    concept: str,
    progress: Reporter | None = None,
) -> ContrastActivations:
    """Run the model over both sides of each pair and keep the last token's residual stream.

    A text is prompt + " " + continuation, so its last token is never at position 0, whose residual stream is an
    attention sink that says nothing of the text.

    Raises:
        UnknownNameError: The model has no such layer.
        NonFiniteError: An activation is NaN or infinite.
    """
    texts = [
        tokenize_continuation(model.tokenizer, pair.prompt, continuation)
        for pair in pairs
        for continuation in (pair.positive, pair.negative)
    ]
    wanted = sorted(set(layers))
    last = torch.empty(len(texts), len(wanted), model.d_model)
    for batch in model.capture([text.ids for text in texts], wanted, progress):
        rows, ends = torch.tensor(batch.rows), torch.tensor(batch.lengths) - 1
        for index, layer in enumerate(wanted):
            residual = batch.residuals[layer]
            last[rows, index] = residual[torch.arange(len(ends)), ends.to(residual.device)].float().cpu()
    ids = tuple(pair.id for pair in pairs)
    return ContrastActivations(last[0::2], last[1::2], tuple(wanted), ids, concept, model.name)
