"""Vectors of files among a profile's plans, and what has to be said where they were made for something else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from steering.concepts import Concept
from steering.errors import DataError
from steering.models.language_model import LanguageModel
from steering.profiles import MethodPlan, Profile
from steering.vectors import SteeringVector, load_vector

# Names of plans stand in the ids of tests, which are chosen by -k and -m.
_NAME = re.compile(r"[\w.-]+")


def require_plan_name(file: Path, option: str) -> None:
    """Refuse a file by whose name, without its ending, no test could be called.

    Raises:
        DataError: The message begins with the option that names the file.
    """
    if not _NAME.fullmatch(file.stem):
        raise DataError(f"{option} {file}: name the file with letters, digits, '-', '_' and '.' alone")


def with_vectors(profile: Profile, files: Sequence[Path], multiplier: float | None) -> Profile:
    """The same profile with stored vectors, each at its layer beside a random direction of its norm.

    A vector is called as its file is, its control the same with `_control` behind it.

    Args:
        profile: What the vectors are added to.
        files: Files of `SteeringVector.save`.
        multiplier: Dose of the vectors whose file recommends none; None where they have to.

    Raises:
        VectorError: A file holds no vector.
        DataError: A vector has no dose, or its name is taken, or no name for a test.
    """
    plans = list(profile.methods)
    for file in files:
        vector, name = load_vector(file), file.stem
        require_plan_name(file, "--vector")
        dose = vector.recommended_multiplier if vector.recommended_multiplier is not None else multiplier
        if dose is None:
            raise DataError(f"--vector {file}: it recommends no multiplier; give --multiplier")
        if {name, f"{name}_control"} & {plan.name for plan in plans}:
            raise DataError(f"--vector {file}: profile {profile.name!r} has a method {name!r} already; rename the file")
        own = (vector.layer,)
        control = MethodPlan(f"{name}_control", dose, "random_direction", norm_of=name, layers=own, is_control=True)
        plans.append(MethodPlan(name, dose, "stored", {"path": str(file)}, control=control.name, layers=own))
        plans.append(control)
    return replace(profile, methods=tuple(plans))


def concept_difference(file: Path, concept: Concept) -> str:
    """What is other about a concept than about the one that a file's vector was made for, or an empty string."""
    vector = load_vector(file)
    if vector.concept and vector.concept != concept.name:
        return f"{file.name} is about {vector.concept}, and was measured by the words and texts of {concept.name}."
    if vector.origin.toward and vector.origin.toward != concept.toward:
        return f"{file.name} steers towards the {vector.origin.toward} side, and {concept.toward} words were counted."
    return ""


def model_difference(vector: SteeringVector, model: LanguageModel) -> str:
    """What is other about a model than about the one that a vector was constructed on, whose sizes it has; or ""."""
    origin, dtype = vector.origin, model.dtype_name
    if origin.model_hash == model.hash:
        return ""
    if vector.model and vector.model != model.name:
        return f"constructed on model {vector.model}, applied to {model.name}: it may mean nothing there"
    if origin.dtype and origin.dtype != dtype:
        return f"constructed in {origin.dtype}, applied in {dtype}"
    if origin.model_hash:
        return f"constructed on other weights than those of the model {model.name} that is loaded"
    return ""
