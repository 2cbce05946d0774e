"""Small activations as the cache keeps them, and a reporter that remembers what was said."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array

from steering.activation_cache import LayerActivations, Unit
from steering.progress import Silent
from steering.sae.contrast_features import TOKEN_RULES

TEXTS, D_MODEL, D_SAE = 6, 4, 10
UNIT = Unit("a" * 64, TEXTS, D_MODEL, D_SAE)


class Notes(Silent):
    """A reporter that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def unit(number: int, d_sae: int | None = D_SAE) -> Unit:
    """A unit of another key."""
    return Unit(f"{number:064x}", TEXTS, D_MODEL, d_sae)


def activations(seed: int = 0) -> LayerActivations:
    """Seeded numbers; about half of the features fire."""
    generator = np.random.default_rng(seed)
    features = {}
    for rule in TOKEN_RULES:
        codes = np.maximum(generator.normal(size=(TEXTS, D_SAE)), 0).astype(np.float32)
        rows, columns = np.nonzero(codes)
        ends = np.searchsorted(rows, np.arange(TEXTS + 1))
        features[rule] = csr_array((codes[rows, columns], columns, ends), shape=codes.shape)
    return LayerActivations(torch.from_numpy(generator.normal(size=(TEXTS, D_MODEL)).astype(np.float32)), features)


def bits(found: LayerActivations) -> list[object]:
    """All that is kept, byte by byte."""
    parts: list[object] = [found.residuals.dtype, found.residuals.shape, found.residuals.numpy().tobytes()]
    for rule, matrix in sorted(found.features.items()):
        parts += [rule, matrix.shape, matrix.dtype, matrix.data.tobytes(), matrix.indptr.tolist()]
        parts += [matrix.indices.dtype, matrix.indices.tolist()]
    return parts
