"""How alike a vector is to each feature of a sparse autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steering.errors import NonFiniteError, SteeringError, VectorError
from steering.sae.autoencoder import SparseAutoencoder
from steering.vectors import SteeringVector

_EXTREME_SHARE = 0.001


@dataclass(frozen=True, eq=False)
class FeatureSimilarity:
    """The unnormalised product W_dec @ v (the paper's Fig. 7).

    Attributes:
        layer: Of the vector and the SAE.
        products: `[d_sae]`, the product of the vector with each feature's decoder row.

    Raises:
        SteeringError: There are no products.
        NonFiniteError: A product is NaN or infinite.
    """

    layer: int
    products: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what has no order."""
        if self.products.ndim != 1 or len(self.products) == 0:
            raise SteeringError(
                f"similarities have the shape {self.products.shape}; one product for each feature is required"
            )
        if not np.isfinite(self.products).all():
            raise NonFiniteError("a similarity is NaN or infinite")

    @cached_property
    def order(self) -> list[int]:
        """All features, the one with the largest product first; of equals, the one with the lower number."""
        return [int(feature) for feature in np.argsort(-self.products, kind="stable")]

    @property
    def top(self) -> list[int]:
        """The 0.1 % of features with the largest products, largest first; at least one."""
        return self.order[: self._count]

    @property
    def bottom(self) -> list[int]:
        """The 0.1 % with the smallest, smallest first."""
        return self.order[::-1][: self._count]

    @property
    def _count(self) -> int:
        return max(1, round(_EXTREME_SHARE * len(self.products)))


def similarity(sae: SparseAutoencoder, vector: SteeringVector) -> FeatureSimilarity:
    """Compare a vector with all features of the SAE of its layer.

    Raises:
        VectorError: The vector is for another layer or width.
    """
    if vector.layer != sae.layer or vector.direction.shape[0] != sae.d_model:
        raise VectorError(
            f"{vector.label}: layer {vector.layer}, width {vector.direction.shape[0]}; SAE {sae.name} reads layer "
            f"{sae.layer}, width {sae.d_model}"
        )
    products = sae.decoder @ vector.direction.to(sae.device)
    return FeatureSimilarity(vector.layer, products.float().cpu().numpy())
