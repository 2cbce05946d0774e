"""From scores to rows: the one place where a measurement is given the circumstances that it was made under."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

from steering.activations import ContrastActivations
from steering.errors import DataError
from steering.methods import needs_losses, needs_sae
from steering.metrics import Score
from steering.models.language_model import LanguageModel
from steering.models.tokens import template_hash
from steering.results import (
    CONSTRUCTION,
    DEVELOPMENT_CHANGE,
    NEUTRAL_BUDGET,
    NORM_OF,
    SAE,
    SCALED_MULTIPLIER,
    UNSTEERED,
    Row,
)
from steering.sae.autoencoder import SparseAutoencoder
from steering.settings import Setting
from steering.sweeps.cells import Cell, norm_plan
from steering.sweeps.doses import Dose
from steering.vectors import Intervention

# They decide what a measurement comes to.
_PACKAGES = ("steering-bench", "torch", "transformers", "numpy")


def blank_row(setting: Setting, model: LanguageModel, run: str) -> Row:
    """What all rows of a run share: the row of its unsteered model, without a metric."""
    profile, concept = setting.profile, setting.concept
    chat = {"chat_template": template_hash(model.tokenizer)} if concept.chat else {}
    return Row(
        run=run,
        model=model.name,
        model_hash=model.hash,
        model_settings_hash=model.settings_hash,
        dtype=model.dtype_name,
        device=model.device.type,
        concept=concept.name,
        toward=concept.toward,
        neutral=setting.neutral.name,
        data_hash=setting.data_hash,
        method=UNSTEERED,
        parameters={},
        layer=None,
        multiplier=0.0,
        vector_hash="",
        vector_norm=None,
        seed=profile.seed,
        measurement=profile.measurement | chat,
        metric="",
        versions=dict(_versions()),
    )


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def of_cell(row: Row, setting: Setting, cell: Cell) -> Row:
    """A row that says which plan at which layer is measured."""
    plan = setting.profile.plan(cell.method)
    return replace(
        row,
        method=cell.method,
        layer=cell.layer,
        multiplier=cell.multiplier,
        parameters=dict(plan.parameters),
        control=plan.control,
        is_control=plan.name in setting.profile.controls,
    )


def of_vector(row: Row, setting: Setting, intervention: Intervention, activations: ContrastActivations) -> Row:
    """A row that says what is added."""
    vector = intervention.vector
    return replace(
        row,
        multiplier=intervention.multiplier,
        parameters=_provenance(setting, vector.method, vector.parameters, activations, vector.layer),
        vector_hash=vector.hash,
        vector_norm=vector.norm,
        features=vector.features,
    )


def of_sae(row: Row, layer: int, parameters: Mapping[str, Any]) -> Row:
    """A row that says which SAE is measured; of parameters, those of `sae_parameters` and what it computes with."""
    return replace(row, method=SAE, layer=layer, parameters=dict(parameters))


def dose_parameters(
    setting: Setting, cell: Cell, dose: Dose | None, activations: ContrastActivations
) -> dict[str, Any]:
    """The parameters of a row that say what its multiplier follows from, where that is not the plan's.

    That is a budget, for which it was looked for, or the norm of another plan's vector.
    """
    budget, reference = setting.profile.neutral_budget, norm_plan(setting.profile, cell.method)
    if cell.multiplier == 0:
        return {}
    scaled = {}
    if reference is not None:
        scaled = {NORM_OF: _provenance(setting, reference.method, reference.parameters, activations, cell.layer)}
    if budget is None:
        return scaled | {SCALED_MULTIPLIER: cell.multiplier} if scaled else {}
    if dose is None:
        return scaled | {NEUTRAL_BUDGET: budget}
    return scaled | {
        NEUTRAL_BUDGET: budget,
        DEVELOPMENT_CHANGE: dose.change,
        "development_hash": setting.development.hash if setting.development else "",
    }


def _provenance(
    setting: Setting, method: str, parameters: Mapping[str, Any], activations: ContrastActivations, layer: int
) -> dict[str, Any]:
    """How a vector is made, and of what besides the concept's pairs: the layer's SAE, or documents to learn from."""
    found = dict(parameters) | {CONSTRUCTION: method}
    if needs_sae(method):
        read = activations.features_at(layer)
        found |= sae_parameters(read.sae)
        if read.descriptions.hash:
            found["descriptions_hash"] = read.descriptions.hash
    if needs_losses(method):
        with contextlib.suppress(DataError):  # without documents there is no vector, and its row says why
            found["training_hash"] = setting.load_training_documents().hash
    return found


def sae_parameters(sae: SparseAutoencoder) -> dict[str, Any]:
    """The parameters of a row that say which SAE was read."""
    return {"sae": sae.name, "sae_hash": sae.hash, "hook_name": sae.hook_name}


def with_score(row: Row, score: Score) -> Row:
    """A row that says what came of a metric."""
    return replace(
        row,
        metric=score.metric,
        value=score.value,
        n=len(score.items),
        low=score.low,
        high=score.high,
        p_value=score.p_value,
        p_control=score.p_control,
        items=tuple(score.items.astype(float).tolist()),
        texts=score.texts,
    )
