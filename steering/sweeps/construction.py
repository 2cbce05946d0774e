"""From cells to interventions: activations of the concept's pairs, vectors from them, and their doses."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from steering.activation_cache import ActivationCache
from steering.activations import ContrastActivations, FeatureReader, capture_pairs, with_losses
from steering.errors import SaeError, SteeringError, VectorError
from steering.methods import construct, needs_losses
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText, tokenize_documents
from steering.profiles import MethodPlan
from steering.progress import Reporter
from steering.results import cell_id
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.features import Descriptions
from steering.sae.library import SaeLibrary
from steering.settings import Setting
from steering.sweeps.cells import Cell, norm_plan, reads_sae
from steering.sweeps.doses import Budget, Dose, DoseFinder
from steering.vectors import Intervention, SteeringVector


@dataclass(frozen=True)
class Constructed:
    """What a cell measures, or why there is nothing to measure.

    Attributes:
        intervention: The vector with its multiplier; None where it could not be constructed.
        reason: Why not.
        dose: How the multiplier was found, where it was looked for.
        seconds: Time that it took.
    """

    intervention: Intervention | None
    reason: str
    dose: Dose | None
    seconds: float


class Constructor:
    """Constructs the vectors of cells of one setting on one model.

    Args:
        setting: What is measured.
        model: The model to steer.
        cells: The cells to come: the activations of their layers are captured in one pass.
        saes: Where the SAEs are that some methods read.
        progress: Where to report.
        cache: Where activations of earlier runs are, and those of this one are kept.

    Attributes:
        capture_seconds: Time that capturing took.
    """

    def __init__(
        self,
        setting: Setting,
        model: LanguageModel,
        cells: Sequence[Cell],
        *,
        saes: SaeLibrary | None,
        progress: Reporter,
        cache: ActivationCache | None,
    ) -> None:
        self.capture_seconds = 0.0
        self._setting = setting
        self._model = model
        self._cells = cells
        self._saes = saes
        self._progress = progress
        self._cache = cache
        self._vectors: dict[tuple[str, int, str], SteeringVector] = {}

    @cached_property
    def activations(self) -> ContrastActivations:
        """Activations of the concept's generation pairs at the cells' layers."""
        concept = self._setting.concept
        started = time.perf_counter()
        reader = FeatureReader(self._load_saes(), concept.feature_keywords)
        layers = sorted({cell.layer for cell in self._cells})
        activations = capture_pairs(
            self._model,
            concept.generation,
            layers,
            concept.name,
            reader=reader,
            progress=self._progress,
            cache=self._cache,
        )
        self.capture_seconds = time.perf_counter() - started
        positions = self._setting.profile.steered_positions
        return with_losses(
            activations,
            self._model,
            concept.generation,
            self._training_texts,
            positions=positions,
            progress=self._progress,
        )

    def _training_texts(self) -> list[TokenizedText]:
        """Neutral documents that are not measured."""
        documents = self._setting.load_training_documents().documents
        return tokenize_documents(self._model.tokenizer, documents, *self._setting.profile.neutral_lengths)

    def _load_saes(self) -> list[tuple[SparseAutoencoder, Descriptions]]:
        profile = self._setting.profile
        layers = sorted({cell.layer for cell in self._cells if reads_sae(profile, cell.method)})
        if not layers:
            return []
        if self._saes is None:
            raise SaeError(f"profile {profile.name!r}: a method reads SAEs, and 'saes' names none")
        self._progress.note("loading sparse autoencoders …")
        return self._saes.load_described(layers, self._model.device)

    def construct(self, cell: Cell) -> Constructed:
        """Construct a cell's vector and give it its dose; a vector that cannot be made has a reason instead."""
        started = time.perf_counter()
        intervention, reason, dose = None, "", None
        try:
            if self.doses is None or not cell.multiplier:
                intervention = self.intervention(cell)
            else:
                unit = self.intervention(replace(cell, multiplier=math.copysign(1.0, cell.multiplier)))
                dose = self.doses.find(unit)
                if dose.factor == self._setting.profile.doses[-1]:
                    self._progress.note(
                        f"{cell.id}: × {dose.factor:g} is the largest dose tried; more may be within, too"
                    )
                intervention = replace(unit, multiplier=unit.multiplier * dose.factor)
        except SteeringError as error:
            intervention, reason = None, str(error)
        return Constructed(intervention, reason, dose, time.perf_counter() - started)

    def intervention(self, cell: Cell) -> Intervention:
        """The cell's vector with the multiplier that its plan gives it.

        Raises:
            SaeError: The method finds no feature to use.
            VectorError: The vector has no length, though its plan scales it to another's.
        """
        profile = self._setting.profile
        plan, scaled_to = profile.plan(cell.method), norm_plan(profile, cell.method)
        vector = self._vector(plan, cell.layer)
        intervention = Intervention(vector, cell.multiplier, profile.steered_positions)
        if scaled_to is None:
            return intervention
        reference = self._vector(scaled_to, cell.layer)
        if vector.norm == 0:
            raise VectorError(f"{vector.label}: its norm is 0, so that it cannot be scaled to that of {scaled_to.name}")
        return replace(intervention, multiplier=cell.multiplier * reference.norm / vector.norm)

    def _vector(self, plan: MethodPlan, layer: int) -> SteeringVector:
        """The vector of a plan at a layer, constructed once, however many plans scale theirs to it."""
        key = (plan.method, layer, json.dumps(dict(plan.parameters), sort_keys=True, default=str))
        if key not in self._vectors:
            if needs_losses(plan.method):
                self._progress.note(f"optimising {cell_id(plan.name, layer)} …")  # for a minute, perhaps
            self._vectors[key] = construct(plan.method, self.activations, layer, plan.parameters)
        return self._vectors[key]

    @cached_property
    def doses(self) -> DoseFinder | None:
        """What finds doses, where the profile has a budget.

        Raises:
            DataError: A development document is longer than the model's context.
            NonFiniteError: The unsteered loss of one is NaN or infinite.
        """
        profile, development = self._setting.profile, self._setting.development
        if profile.neutral_budget is None or development is None:
            return None
        texts = tokenize_documents(self._model.tokenizer, development.documents, *profile.neutral_lengths)
        return DoseFinder(self._model, texts, Budget(profile.neutral_budget, profile.doses), self._progress)
