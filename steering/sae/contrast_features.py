"""Feature activations of the two sides of contrast pairs: what the construction methods see of an SAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_array

from steering.errors import SteeringError
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.encoding import encode_texts
from steering.sae.features import Descriptions

#: How the tokens of a continuation become one value of a feature.
TokenRule = Literal["mean", "max", "last"]
#: How the pairs become one value.
PairRule = Literal["mean", "max"]

TOKEN_RULES: tuple[TokenRule, ...] = ("mean", "max", "last")


@dataclass(frozen=True, eq=False)
class ContrastFeatures:
    """Feature activations of one layer's SAE over the continuations of contrast pairs.

    Attributes:
        positive: Token rule -> `[pair, d_sae]`, float32, sparse.
        negative: The same for the other side.
        sae: The SAE.
        descriptions: Of its features.
        keywords: Words by which features of the concept are found in the descriptions.
    """

    positive: Mapping[TokenRule, csr_array]
    negative: Mapping[TokenRule, csr_array]
    sae: SparseAutoencoder
    descriptions: Descriptions
    keywords: tuple[str, ...]

    def difference(self, tokens: TokenRule = "mean", pairs: PairRule = "mean") -> torch.Tensor:
        """Change of each feature from the negative to the positive side, `[d_sae]`, float32.

        Args:
            tokens: Mean or maximum over the continuation's tokens, or the last token alone.
            pairs: "mean" averages over pairs. "max" takes the largest value of any positive text minus the largest of
                any negative one; with `tokens="max"`, that is what the paper's published script computes, but that the
                script also reads the prompts.
        """
        sides = [side[tokens] for side in (self.positive, self.negative)]
        if pairs == "max":
            high, low = (side.max(axis=0).toarray().astype(np.float64) for side in sides)
        else:
            high, low = (np.asarray(side.astype(np.float64).mean(axis=0)) for side in sides)
        return torch.from_numpy((high - low).ravel()).float()


def largest(weights: torch.Tensor, count: int | None) -> torch.Tensor:
    """Keep the weights of largest absolute value, `[d_sae]`; the others become 0. None keeps all."""
    if count is None or count >= len(weights):
        return weights
    kept = weights.abs().topk(count).indices
    result = torch.zeros_like(weights)
    result[kept] = weights[kept]
    return result


class FeatureReduction:
    """Reduces feature activations to one row for each text as batches come, so that no token is kept.

    Args:
        sae: The SAE of the layer.
        text_count: How many texts will be added.
    """

    def __init__(self, sae: SparseAutoencoder, text_count: int) -> None:
        self.sae = sae
        self._rows: dict[TokenRule, list[tuple[np.ndarray, np.ndarray] | None]] = {
            rule: [None] * text_count for rule in TOKEN_RULES
        }

    def add(self, texts: Sequence[int], continuations: Sequence[torch.Tensor]) -> None:
        """Add the residual streams `[token, d_model]` of some texts' continuations."""
        for text, tokens in zip(texts, encode_texts(self.sae, continuations), strict=True):
            reduced = {"mean": tokens.mean(dim=0), "max": tokens.amax(dim=0), "last": tokens[-1]}
            for rule in TOKEN_RULES:
                row = reduced[rule].cpu().numpy()
                indices = np.flatnonzero(row)
                self._rows[rule][text] = (indices, row[indices])

    def matrices(self) -> dict[TokenRule, csr_array]:
        """Token rule -> one row for each text, `[text, d_sae]`.

        Raises:
            SteeringError: One of the texts was never added.
        """
        return {rule: self._matrix(rows) for rule, rows in self._rows.items()}

    def _matrix(self, rows: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> csr_array:
        present = [row for row in rows if row is not None]
        if len(present) < len(rows):
            raise SteeringError(f"{len(rows) - len(present)} texts have no feature activations")
        ends = np.cumsum([0] + [len(indices) for indices, _ in present])
        indices, values = (np.concatenate(parts) for parts in zip(*present, strict=True))
        return csr_array((values, indices, ends), shape=(len(rows), self.sae.d_sae))
