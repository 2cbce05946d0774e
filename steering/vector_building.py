"""Vectors to keep: constructed from a concept's pairs at some layers, with what they were constructed from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from steering.activation_cache import ActivationCache
from steering.activations import FeatureReader, capture_pairs, with_losses
from steering.concepts import Concept
from steering.errors import DataError, NonFiniteError, SaeError
from steering.methods import construct, create_method, is_constructed, needs_losses, needs_sae
from steering.models.language_model import LanguageModel
from steering.models.tokens import tokenize_documents
from steering.neutral import NeutralSet
from steering.positions import Positions
from steering.profiles import Profile
from steering.progress import SILENT, Reporter
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.features import Descriptions
from steering.sae.library import SaeLibrary
from steering.vectors import Origin, SteeringVector

_PACKAGES = ("steering-bench", "torch", "transformers", "nnsight", "sae-lens")


@dataclass(frozen=True)
class Recipe:
    """What to construct.

    Attributes:
        method: A registered construction method.
        layers: Blocks to construct it at.
        parameters: Of the method; those left out take their defaults.
        saes: The sparse autoencoders; required by a method that reads features.
        recommended_multiplier: Written into each vector.
        neutral: Documents; required by a method that follows the gradient of losses.
        steered_positions: Of the texts whose losses such a method follows.
    """

    method: str
    layers: Sequence[int]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    saes: SaeLibrary | None = None
    recommended_multiplier: float | None = None
    neutral: NeutralSet | None = None
    steered_positions: Positions = "prompt"

    def __post_init__(self) -> None:
        """Refuse what no model is needed to refuse.

        Raises:
            UnknownNameError: There is no such method, or it has no such parameter.
            DataError: A parameter has a value that it cannot take; the method needs neutral documents; or it constructs
                nothing.
            SaeError: The method reads features, and there is no SAE for a layer.
            NonFiniteError: The multiplier is NaN or infinite.
        """
        if self.recommended_multiplier is not None and not math.isfinite(self.recommended_multiplier):
            raise NonFiniteError(f"multiplier {self.recommended_multiplier} is not finite")
        create_method(self.method, self.parameters)
        if not is_constructed(self.method):
            raise DataError(f"method {self.method!r} constructs nothing: its file is a vector already")
        if needs_losses(self.method) and self.neutral is None:
            raise DataError(f"method {self.method!r} needs the losses of neutral documents: give `neutral`")
        if needs_sae(self.method):
            if self.saes is None:
                raise SaeError(f"method {self.method!r} reads features: give `saes`")
            for layer in self.layers:
                self.saes.require(layer)


def build_vectors(
    model: LanguageModel,
    concept: Concept,
    recipe: Recipe,
    progress: Reporter = SILENT,
    cache: ActivationCache | None = None,
) -> list[SteeringVector]:
    """Construct one vector at each layer, as the benchmark would, and note what it was constructed from.

    The model reads the concept's generation pairs once for all layers.

    Args:
        model: The model to read the pairs with.
        concept: Whose generation pairs to construct from.
        recipe: What to construct, and where.
        progress: Where to report.
        cache: Where activations of earlier runs are, and those of this one are kept.

    Returns:
        The vectors, in the order of the recipe's layers.

    Raises:
        UnknownNameError: The model has no such layer.
        SaeError: The method reads features, and a layer has no SAE that fits the model; or it finds none to use.
        NonFiniteError: An activation or a direction is not finite.
    """
    saes = _loaded(model, recipe)
    activations = capture_pairs(
        model,
        concept.generation,
        recipe.layers,
        concept.name,
        reader=FeatureReader(list(saes.values()), concept.feature_keywords),
        progress=progress,
        cache=cache,
    )
    if recipe.neutral is not None:
        limits = (Profile.neutral_prompt_tokens, Profile.neutral_continuation_tokens)
        texts = partial(tokenize_documents, model.tokenizer, recipe.neutral.documents, *limits)
        activations = with_losses(
            activations, model, concept.generation, texts, positions=recipe.steered_positions, progress=progress
        )
    shared = Origin(
        model_hash=model.hash,
        model_type=model.module.config.model_type,
        layer_count=model.layer_count,
        dtype=model.dtype_name,
        concept_hash=concept.hash,
        toward=concept.toward,
        steered_positions=recipe.steered_positions if needs_losses(recipe.method) else "",
        versions={name: version(name) for name in _PACKAGES},
    )
    vectors = []
    for layer in recipe.layers:
        origin = shared
        if layer in saes:
            sae, _ = saes[layer]
            origin = dataclasses.replace(shared, sae=sae.name, sae_hash=sae.hash)
        vector = construct(recipe.method, activations, layer, recipe.parameters)
        vectors.append(dataclasses.replace(vector, origin=origin, recommended_multiplier=recipe.recommended_multiplier))
    return vectors


def _loaded(model: LanguageModel, recipe: Recipe) -> dict[int, tuple[SparseAutoencoder, Descriptions]]:
    """Layer -> its SAE with descriptions, for a method that reads features."""
    library = recipe.saes
    if library is None or not needs_sae(recipe.method):
        return {}
    return {sae.layer: (sae, known) for sae, known in library.load_described(recipe.layers, model.device)}
