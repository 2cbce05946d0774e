"""Where features fire on text: how often, on which tokens, and in which contexts most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from steering.models.language_model import LanguageModel
from steering.models.outputs import CapturedBatch
from steering.progress import SILENT, Reporter
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.encoding import tokens_of_part


@dataclass(frozen=True, eq=False)
class FeatureActivity:
    """What was seen of one SAE's features.

    Attributes:
        tokens: How many tokens were read.
        fired: On how many of them each feature was active, `[d_sae]`.
        strongest: The largest activations of each feature, largest first, `[rank, d_sae]`; 0 where there are fewer.
        rows: The text of each, `[rank, d_sae]`.
        positions: The position of each in its text, `[rank, d_sae]`.
    """

    tokens: int
    fired: torch.Tensor
    strongest: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor

    @property
    def silent_share(self) -> float:
        """Share of the features that never fired."""
        return float((self.fired == 0).float().mean())

    def frequency(self, feature: int) -> float:
        """Share of the tokens on which a feature was active; 0 where none was read."""
        return float(self.fired[feature]) / max(1, self.tokens)

    def places(self, feature: int) -> list[tuple[int, int, float]]:
        """(text, position, activation) of a feature's strongest activations, strongest first."""
        triples = zip(
            self.rows[:, feature].tolist(),
            self.positions[:, feature].tolist(),
            self.strongest[:, feature].tolist(),
            strict=True,
        )
        return [triple for triple in triples if triple[2] > 0]


def read_activity(
    model: LanguageModel,
    saes: Sequence[SparseAutoencoder],
    rows: Sequence[Sequence[int]],
    ranks: int,
    progress: Reporter = SILENT,
) -> dict[int, FeatureActivity]:
    """Read the activity of the features of several SAEs in one pass over some texts.

    The first position of each text, an attention sink, is left out.

    Args:
        model: The model.
        saes: One for each layer.
        rows: Token ids of each text.
        ranks: How many of the strongest activations to keep for each feature.
        progress: Where to report.

    Returns:
        Layer -> activity.

    Raises:
        SaeError: One of the SAEs does not fit the model.
    """
    for sae in saes:
        sae.check_fits(model.name, model.d_model, model.layer_count)
    counts = {sae.layer: _Count.empty(sae, ranks) for sae in saes}
    for batch in model.capture(rows, [sae.layer for sae in saes], progress):
        where = _places(batch)
        for sae in saes:
            residual = batch.residuals[sae.layer]
            inside = torch.cat([residual[row, 1:length] for row, length in enumerate(batch.lengths)])
            size = tokens_of_part(sae)
            for tokens, places in zip(torch.split(inside, size), torch.split(where, size), strict=True):
                counts[sae.layer].add(sae.encode(tokens).cpu(), places)
    return {layer: count.result() for layer, count in counts.items()}


def _places(batch: CapturedBatch) -> torch.Tensor:
    """(text, position) of each token but the first of each text, `[token, 2]`."""
    pairs = [
        (row, position) for row, length in zip(batch.rows, batch.lengths, strict=True) for position in range(1, length)
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


@dataclass(eq=False)
class _Count:
    """Adds up batches."""

    tokens: int
    fired: torch.Tensor
    strongest: torch.Tensor
    places: torch.Tensor

    @classmethod
    def empty(cls, sae: SparseAutoencoder, ranks: int) -> _Count:
        shape, whole = (ranks, sae.d_sae), torch.int64
        fired, places = torch.zeros(sae.d_sae, dtype=whole), torch.zeros((*shape, 2), dtype=whole)
        return cls(0, fired, torch.zeros(shape), places)

    def add(self, codes: torch.Tensor, where: torch.Tensor) -> None:
        if len(codes) == 0:
            return
        ranks = len(self.strongest)
        self.tokens += len(codes)
        self.fired += (codes != 0).sum(dim=0)
        values, tokens = codes.topk(min(ranks, len(codes)), dim=0)
        kept = torch.cat([self.strongest, values])
        places = torch.cat([self.places, where[tokens]])
        self.strongest, order = kept.topk(ranks, dim=0)
        self.places = places.gather(0, order.unsqueeze(2).expand(-1, -1, 2))

    def result(self) -> FeatureActivity:
        rows, positions = self.places.unbind(dim=2)
        return FeatureActivity(self.tokens, self.fired, self.strongest, rows, positions)
