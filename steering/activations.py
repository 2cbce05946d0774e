"""From contrast pairs to activations: what the construction methods see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Protocol, get_args

import torch

from steering.activation_cache import ActivationCache, LayerActivations, units_of
from steering.concepts import ContrastPair, Side
from steering.errors import NonFiniteError, SaeError, SteeringError, require_known
from steering.models.language_model import LanguageModel
from steering.models.outputs import CapturedBatch
from steering.models.steered_losses import pair_losses
from steering.models.tokens import TokenizedText, tokenize_side
from steering.positions import Positions
from steering.progress import SILENT, Reporter
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.contrast_features import ContrastFeatures, FeatureReduction
from steering.sae.features import Descriptions


class LossFunction(Protocol):
    """Losses of texts while a vector is added to one layer's output, as a method sees them.

    There are three kinds of text: "positive" and "negative", the two sides of the pairs in the pairs' order, and
    "neutral" documents.
    """

    def count(self, kind: str) -> int:
        """How many texts there are of a kind."""
        ...

    def __call__(self, kind: str, rows: Sequence[int], addition: torch.Tensor) -> torch.Tensor:
        """Mean loss of some texts, nats per continuation token; it has a gradient by the addition.

        Args:
            kind: "positive", "negative" or "neutral".
            rows: Which of the texts of that kind, each by its number from 0.
            addition: `[d_model]`, added at each position of a text that is steered: of its prompt, or all.
        """
        ...


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
        features: Layer -> feature activations, of the layers that have an SAE.
        losses: Layer -> losses under steering, for methods that follow their gradient; None where nobody gave them.
    """

    positive: torch.Tensor
    negative: torch.Tensor
    layers: tuple[int, ...]
    pair_ids: tuple[str, ...]
    concept: str
    model: str
    features: Mapping[int, ContrastFeatures] = field(default_factory=dict)
    losses: Callable[[int], LossFunction] | None = None

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
        require_known("captured layer", [layer], self.layers)
        index = self.layers.index(layer)
        return self.positive[:, index], self.negative[:, index]

    def features_at(self, layer: int) -> ContrastFeatures:
        """Return the feature activations at one layer.

        Raises:
            SaeError: The layer has no SAE.
        """
        if layer not in self.features:
            known = ", ".join(map(str, sorted(self.features))) or "none"
            raise SaeError(f"layer {layer} has no SAE here; layers that have one: {known}")
        return self.features[layer]

    def losses_at(self, layer: int) -> LossFunction:
        """Return the losses under steering at one layer.

        Raises:
            SteeringError: There are none: only activations are given.
        """
        if self.losses is None:
            raise SteeringError(
                f"layer {layer}: this method follows the gradient of losses, and no model gives any here"
            )
        return self.losses(layer)

    def decode_at(self, layer: int, weights: torch.Tensor) -> torch.Tensor:
        """Sum of decoder rows `[d_model]` with the weights `[d_sae]`, in these activations' dtype, on their device."""
        direction = self.features_at(layer).sae.decode_difference(weights)
        return direction.to(self.positive.device, self.positive.dtype)


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """What turns residual streams into feature activations while they are captured.

    Attributes:
        saes: One for each layer that has one, with its descriptions.
        keywords: Words by which features of the concept are found.
    """

    saes: Sequence[tuple[SparseAutoencoder, Descriptions]] = ()
    keywords: tuple[str, ...] = ()


def capture_pairs(
    model: LanguageModel,
    pairs: Sequence[ContrastPair],
    layers: Sequence[int],
    concept: str,
    *,
    reader: FeatureReader | None = None,
    progress: Reporter = SILENT,
    cache: ActivationCache | None = None,
) -> ContrastActivations:
    """Run the model once over both sides of each pair, and keep what the construction methods need.

    That is the last token's residual stream at each layer, and the feature activations over the continuation's tokens
    where there is an SAE. A text is prompt + " " + continuation, so none of these tokens is at position 0, whose
    residual stream is an attention sink that says nothing of the text.

    Layers that the cache holds are read from it, and the model runs for the others alone. It changes no bit of the
    result.

    Args:
        model: The model to read the pairs with.
        pairs: At least one.
        layers: Blocks whose output to keep; those of the reader's SAEs are kept with them.
        concept: Name of the concept, for the provenance of vectors.
        reader: The SAEs, for methods that read features.
        progress: Where to report.
        cache: Where activations of earlier runs are, and those of this one are kept.

    Raises:
        SteeringError: There are no pairs.
        UnknownNameError: The model has no such layer.
        DataError: A text is longer than the model's context.
        NonFiniteError: An activation is NaN or infinite.
        SaeError: An SAE does not fit the model.
    """
    if not pairs:
        raise SteeringError("activations of no pairs: a vector needs at least one")
    reader = reader or FeatureReader()
    for sae, _ in reader.saes:
        sae.check_fits(model.name, model.d_model, model.layer_count)
    texts = [tokenize_side(model.tokenizer, pair, side) for pair in pairs for side in get_args(Side)]
    saes = {sae.layer: sae for sae, _ in reader.saes}
    wanted = sorted({*layers, *saes})
    capture = partial(_capture, model, texts, saes, progress)
    found = capture(wanted) if cache is None else cache.obtain(units_of(model, texts, wanted, saes), capture, progress)
    last = torch.empty(len(texts), len(wanted), model.d_model)
    for index, layer in enumerate(wanted):
        last[:, index] = found[layer].residuals
    features = {
        sae.layer: ContrastFeatures(
            {rule: matrix[0::2] for rule, matrix in found[sae.layer].features.items()},
            {rule: matrix[1::2] for rule, matrix in found[sae.layer].features.items()},
            sae,
            descriptions,
            reader.keywords,
        )
        for sae, descriptions in reader.saes
    }
    ids = tuple(pair.id for pair in pairs)
    return ContrastActivations(
        positive=last[0::2],
        negative=last[1::2],
        layers=tuple(wanted),
        pair_ids=ids,
        concept=concept,
        model=model.name,
        features=features,
    )


def with_losses(
    activations: ContrastActivations,
    model: LanguageModel,
    pairs: Sequence[ContrastPair],
    documents: Callable[[], Sequence[TokenizedText]],
    *,
    positions: Positions = "prompt",
    progress: Reporter = SILENT,
) -> ContrastActivations:
    """The same activations, with the losses of a layer for methods that ask for them; until then nothing is computed.

    Args:
        activations: Of the pairs.
        model: That they were captured from.
        pairs: The two sides.
        documents: Gives neutral texts.
        positions: Where vectors are added to them.
        progress: Where to report.
    """

    @lru_cache(maxsize=1)  # they hold a layer's output for every text
    def losses(layer: int) -> LossFunction:
        return pair_losses(model, layer, pairs, documents(), positions=positions, progress=progress)

    return replace(activations, losses=losses)


def _capture(
    model: LanguageModel,
    texts: Sequence[TokenizedText],
    saes: Mapping[int, SparseAutoencoder],
    progress: Reporter,
    layers: Sequence[int],
) -> dict[int, LayerActivations]:
    """Layer -> its activations, in one pass; each batch is reduced before the next is read."""
    last = {layer: torch.empty(len(texts), model.d_model) for layer in layers}
    reductions = {layer: FeatureReduction(saes[layer], len(texts)) for layer in layers if layer in saes}
    for batch in model.capture([text.ids for text in texts], layers, progress):
        rows, ends = torch.tensor(batch.rows), torch.tensor(batch.lengths) - 1
        for layer in layers:
            residual = batch.residuals[layer]
            last[layer][rows] = residual[torch.arange(len(ends)), ends.to(residual.device)].float().cpu()
        for layer, reduction in reductions.items():
            reduction.add(batch.rows, _continuations(batch, layer, texts))
    return {
        layer: LayerActivations(last[layer], reductions[layer].matrices() if layer in reductions else {})
        for layer in layers
    }


def _continuations(batch: CapturedBatch, layer: int, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
    """Residual streams of the continuations in a batch, each `[token, d_model]`."""
    return [
        batch.residuals[layer][row, texts[text].prompt_length : length]
        for row, (text, length) in enumerate(zip(batch.rows, batch.lengths, strict=True))
    ]
