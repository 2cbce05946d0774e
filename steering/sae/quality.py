"""What reconstructions keep of the residual stream, and of what the model does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from steering import stats
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText
from steering.progress import SILENT, Reporter
from steering.sae.activation_store import without_outliers
from steering.sae.autoencoder import SparseAutoencoder


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Sums over the tokens of some texts.

    The first token of each is left out, and so are outliers: a token whose norm is over 5 × the median of its text can
    hold more of the variance than a thousand others. (In training, the median is that of a shard of many texts.)

    Attributes:
        tokens: How many tokens of each text were kept.
        squared_error: Of the reconstruction, for each text, float64.
        active: Mean number of active features on a token of each text.
        variance: Sum of squared distances of each text's tokens from the mean of all tokens, float64.
        fired: Whether each feature fired at all, `[d_sae]`.
    """

    tokens: np.ndarray
    squared_error: np.ndarray
    active: np.ndarray
    variance: np.ndarray
    fired: np.ndarray


def reconstruct(
    model: LanguageModel,
    saes: Sequence[SparseAutoencoder],
    rows: Sequence[Sequence[int]],
    progress: Reporter = SILENT,
) -> dict[int, Reconstruction]:
    """Run the SAEs of several layers over texts of at least two tokens, in one pass; layer -> sums."""
    sums = {sae.layer: _Sums.empty(sae, len(rows)) for sae in saes}
    for batch in model.capture(rows, [sae.layer for sae in saes], progress):
        for sae in saes:
            residuals = batch.residuals[sae.layer].float()
            for index, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                sums[sae.layer].add(sae, row, without_outliers(residuals[index, 1:length]))
    return {layer: total.result() for layer, total in sums.items()}


@dataclass(eq=False)
class _Sums:
    """Adds up texts."""

    tokens: np.ndarray
    squared_error: np.ndarray
    active: np.ndarray
    squares: np.ndarray
    totals: torch.Tensor
    fired: torch.Tensor

    @classmethod
    def empty(cls, sae: SparseAutoencoder, texts: int) -> _Sums:
        tokens, squared_error, active, squares = np.zeros((4, texts))
        totals = torch.zeros(texts, sae.d_model, dtype=torch.float64)
        return cls(tokens, squared_error, active, squares, totals, torch.zeros(sae.d_sae, dtype=torch.bool))

    def add(self, sae: SparseAutoencoder, text: int, residual: torch.Tensor) -> None:
        codes, seen = sae.encode(residual), sae.seen(residual).cpu().double()
        active = codes != 0
        self.tokens[text] = len(residual)
        self.squared_error[text] = float((residual - sae.decode(codes, residual)).cpu().double().square().sum())
        self.active[text] = float(active.sum()) / max(1, len(residual))
        self.fired |= active.any(dim=0).cpu()
        self.totals[text] = seen.sum(dim=0)
        self.squares[text] = float(seen.square().sum())

    def result(self) -> Reconstruction:
        mean = self.totals.sum(dim=0) / self.tokens.sum()
        variance = self.squares - 2 * (self.totals @ mean).numpy() + self.tokens * float(mean.square().sum())
        return Reconstruction(self.tokens, self.squared_error, self.active, variance, self.fired.numpy())


def loss_recovered(clean: np.ndarray, spliced: np.ndarray, ablated: np.ndarray) -> np.ndarray:
    """How much of the loss that zeros in place of a block's output cost is recovered by a reconstruction there.

    Where zeros cost nothing, as of a model that has learnt nothing, there is nothing to recover: 0.

    Args:
        clean: Loss of each text `[text]`.
        spliced: The same with the reconstruction.
        ablated: The same with zeros.

    Returns:
        1 − (spliced − clean) / (ablated − clean) `[text]`, linearised: see `stats.ratio_items`.
    """
    if (ablated - clean).mean() <= 0:
        return np.zeros_like(clean)
    return 1 - stats.ratio_items(spliced - clean, ablated - clean)


@dataclass(frozen=True)
class HeldOutQuality:
    """Quality of one SAE over many tokens, each weighted alike.

    Attributes:
        layer: Its layer.
        d_sae: Its number of features.
        tokens: How many were reconstructed, outliers left out.
        variance_explained: 1 − squared error / variance.
        l0: Mean number of active features.
        silent_features: Share of the features that never fired.
        loss: Cross-entropy of the model, nats per token.
        spliced_loss: The same with the reconstruction in place of the residual stream.
        ablated_loss: The same with zeros in its place.
        loss_recovered: See `loss_recovered`.
    """

    layer: int
    d_sae: int
    tokens: int
    variance_explained: float
    l0: float
    silent_features: float
    loss: float
    spliced_loss: float
    ablated_loss: float
    loss_recovered: float


def held_out_quality(
    model: LanguageModel,
    saes: Sequence[SparseAutoencoder],
    rows: Sequence[Sequence[int]],
    texts: Sequence[TokenizedText],
    progress: Reporter = SILENT,
) -> list[HeldOutQuality]:
    """Measure SAEs on text that they were not trained on.

    Args:
        model: The model.
        saes: One for each layer.
        rows: Token ids to reconstruct.
        texts: Texts to measure losses on.
        progress: Where to report.

    Raises:
        SaeError: One of them does not fit the model.
        NonFiniteError: An activation or a loss is NaN or infinite.
    """
    for sae in saes:
        sae.check_fits(model.name, model.d_model, model.layer_count)
    weights = [len(text.ids) - text.prompt_length for text in texts]
    found = reconstruct(model, saes, rows, progress)

    def mean(losses: np.ndarray) -> float:
        return float(np.average(losses, weights=weights))

    losses = ContinuationLosses(model, texts)
    clean = mean(losses.measure([None], progress)[0])
    qualities = []
    for sae in saes:
        sums = found[sae.layer]
        spliced = mean(losses.replaced(sae.layer, sae.reconstruct, progress))
        ablated = mean(losses.replaced(sae.layer, torch.zeros_like, progress))
        qualities.append(
            HeldOutQuality(
                layer=sae.layer,
                d_sae=sae.d_sae,
                tokens=int(sums.tokens.sum()),
                variance_explained=1 - float(sums.squared_error.sum() / sums.variance.sum()),
                l0=float(np.average(sums.active, weights=sums.tokens)),
                silent_features=float(1 - sums.fired.mean()),
                loss=clean,
                spliced_loss=spliced,
                ablated_loss=ablated,
                loss_recovered=float(loss_recovered(*map(np.atleast_1d, (clean, spliced, ablated)))[0]),
            )
        )
    return qualities
