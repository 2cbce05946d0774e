"""Contrast pairs with a planted direction, and an SAE with features that stand for it."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array

from steering.activations import ContrastActivations
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.contrast_features import ContrastFeatures
from steering.sae.features import Descriptions
from tests.small_saes import D_SAE, small_sae

D_MODEL = 24
LAYERS = (3, 5)
SIDES = ("positive", "negative")
KING, QUEEN, CROWN = 11, 40, 17
WORDS = Descriptions("words", {KING: "about a king", QUEEN: "about a queen", CROWN: "about crowns", 0: "noise"})


def planted_activations(direction: torch.Tensor, pairs: int = 40, seed: int = 0) -> ContrastActivations:
    """Pairs that share their content and differ by the direction, plus noise, at layer 5; by noise alone at layer 3."""
    generator = torch.Generator().manual_seed(seed)
    shape = (pairs, len(LAYERS), D_MODEL)
    content = torch.randn(shape, generator=generator, dtype=direction.dtype) * 3
    noise = torch.randn((2, *shape), generator=generator, dtype=direction.dtype) * 0.2
    signal = torch.zeros(shape, dtype=direction.dtype)
    signal[:, 1] = direction
    ids = tuple(f"pair-{index}" for index in range(pairs))
    sides = (content + signal + noise[0], content - signal + noise[1])
    features = planted_features(direction.dtype, pairs, seed)
    losses = {layer: PlantedLosses(direction if layer == 5 else 0 * direction) for layer in LAYERS}.__getitem__
    return ContrastActivations(*sides, LAYERS, ids, "planted", "none", features, losses)


@dataclasses.dataclass(frozen=True)
class PlantedLosses:
    """Losses that a positive text has the less, and a negative one the more, the further one goes along the direction.

    A neutral one has the least a little way off in every dimension: on one side of the pairs more than on the other.
    """

    direction: torch.Tensor
    flipped: bool = False

    def count(self, _kind: str) -> int:
        return 40

    def __call__(self, kind: str, _rows: Sequence[int], addition: torch.Tensor) -> torch.Tensor:
        if kind == "neutral":
            return (addition - 0.5).square().sum() / 100
        side = 1 if (kind == "negative") != self.flipped else -1
        return torch.nn.functional.softplus(side * (addition @ self.direction) / self.direction.square().sum().clamp(1))


def planted_features(dtype: torch.dtype, pairs: int, seed: int) -> dict[int, ContrastFeatures]:
    """Noise in every feature, and at layer 5 a feature of either side, which decodes to the direction or its opposite.

    The features of the sides fire together with some that all pairs share.
    """
    generator = np.random.default_rng(seed)
    found = {}
    for layer in LAYERS:
        sides = []
        for feature in (KING, QUEEN):
            rules = {}
            for rule in ("mean", "max", "last"):
                codes = np.abs(generator.normal(size=(pairs, D_SAE))) * 0.05 * (generator.random((pairs, D_SAE)) < 0.3)
                codes[:, CROWN] = 2.0
                codes[:, feature] += 1.0 if layer == 5 else 0.0
                rules[rule] = csr_array(codes.astype(np.float32))
            sides.append(rules)
        found[layer] = ContrastFeatures(*sides, planted_sae(layer, dtype), WORDS, ("king", "queen"))
    return found


@functools.cache
def planted_sae(layer: int, dtype: torch.dtype) -> SparseAutoencoder:
    """An SAE with the planted direction and its opposite among its decoder's rows, and a large bias."""
    direction = planted_direction(dtype).float()
    decoder = torch.randn(D_SAE, D_MODEL, generator=torch.Generator().manual_seed(layer))
    decoder[KING], decoder[QUEEN] = direction, -direction
    with tempfile.TemporaryDirectory() as directory:
        return small_sae(
            Path(directory),
            d_model=D_MODEL,
            hook_name=f"blocks.{layer}.hook_resid_post",
            weights={"W_dec": decoder, "b_dec": torch.full((D_MODEL,), 50.0)},
        )


def planted_direction(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(D_MODEL, generator=torch.Generator().manual_seed(9), dtype=dtype)


def swapped(activations: ContrastActivations) -> ContrastActivations:
    features = {
        layer: dataclasses.replace(found, positive=found.negative, negative=found.positive)
        for layer, found in activations.features.items()
    }
    sides = {"positive": activations.negative, "negative": activations.positive}
    return dataclasses.replace(
        activations,
        **sides,
        features=features,
        losses=lambda layer: dataclasses.replace(activations.losses_at(layer), flipped=True),
    )


def reordered(activations: ContrastActivations, order: torch.Tensor) -> ContrastActivations:
    features = {
        layer: dataclasses.replace(
            found,
            **{side: {rule: rows[order.numpy()] for rule, rows in getattr(found, side).items()} for side in SIDES},
        )
        for layer, found in activations.features.items()
    }
    sides = {side: getattr(activations, side)[order] for side in SIDES}
    ids = tuple(activations.pair_ids[pair] for pair in order.tolist())
    return dataclasses.replace(activations, **sides, pair_ids=ids, features=features)


def dense(activations: ContrastActivations, rule: str, layer: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Both sides' codes `[pair, d_sae]`, in float64."""
    found = activations.features_at(layer)
    return tuple(getattr(found, side)[rule].toarray().astype(np.float64) for side in SIDES)
