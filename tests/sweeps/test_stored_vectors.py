"""Vectors of files among a profile's plans, and what is said where they were made for something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steering.concept_files import load_concept
from steering.errors import DataError
from steering.sweeps.stored_vectors import concept_difference, with_vectors
from steering.vectors import Origin, SteeringVector
from tests.sweeps.test_plans import PROFILE


@pytest.fixture
def vector(tmp_path):
    path = tmp_path / "mine.safetensors"
    SteeringVector(torch.ones(4), 3, "m", "c", "model", recommended_multiplier=2.5).save(path)
    return path


def test_stored_vector_stands_at_its_layer_beside_a_random_direction_of_its_norm(vector):
    profile = with_vectors(PROFILE, [vector], None)
    own, control = profile.methods[len(PROFILE.methods) :]
    assert (own.name, own.method, own.parameters) == ("mine", "stored", {"path": str(vector)})
    assert (control.name, control.method, control.norm_of) == ("mine_control", "random_direction", "mine")
    assert {(plan.multiplier, plan.layers) for plan in (own, control)} == {(2.5, (3,))}
    assert own.control == control.name
    assert profile.controls - PROFILE.controls == {control.name}
    assert replace(profile, methods=profile.methods[: len(PROFILE.methods)]) == PROFILE


def test_stored_vector_without_a_dose_takes_the_one_that_is_asked_for(vector):
    SteeringVector(torch.ones(4), 3, "m", "c", "model").save(vector)
    with pytest.raises(DataError, match="it recommends no multiplier; give --multiplier"):
        with_vectors(PROFILE, [vector], None)
    assert with_vectors(PROFILE, [vector], 7.0).plan("mine").multiplier == 7.0


def test_stored_vector_by_the_name_of_a_method_is_refused(vector):
    with pytest.raises(DataError, match="has a method 'mine' already; rename the file"):
        with_vectors(PROFILE, [vector, vector], None)


def test_recommended_dose_goes_before_the_one_that_is_asked_for(vector):
    assert with_vectors(PROFILE, [vector], 7.0).plan("mine").multiplier == 2.5


def test_stored_vector_whose_control_has_the_name_of_a_method_is_refused(vector):
    profile = replace(PROFILE, methods=(*PROFILE.methods, replace(PROFILE.methods[0], name="mine_control")))
    with pytest.raises(DataError, match="already; rename the file"):
        with_vectors(profile, [vector], None)


@pytest.mark.parametrize("name", ["my vector", "it's", "a[b]"])
def test_file_whose_name_no_test_can_have_is_refused(vector, name):
    with pytest.raises(DataError, match="name the file with letters, digits"):
        with_vectors(PROFILE, [vector.rename(vector.with_name(f"{name}.safetensors"))], None)


@pytest.mark.parametrize(
    ("concept", "toward", "told"),
    [
        ("weddings", "", "mine.safetensors is about weddings, and was measured by the words and texts of gender."),
        ("gender", "negative", "mine.safetensors steers towards the negative side, and positive words were counted."),
        ("gender", "positive", ""),
        ("", "", ""),
    ],
)
def test_vector_about_something_else_is_remarked_on(vector, concept, toward, told):
    SteeringVector(torch.ones(4), 3, "m", concept, "", origin=Origin(toward=toward)).save(vector)
    assert concept_difference(vector, load_concept("gender")) == told
