"""Features of sparse autoencoders that vectors are sums of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureWeight:
    """A feature of a sparse autoencoder in a vector.

    Attributes:
        feature: Its number.
        weight: What its decoder row is multiplied by.
        description: What it is about, where that is known.
    """

    feature: int
    weight: float
    description: str
