"""Vectors to keep: what their files say of where they come from, and what is refused before a model reads anything."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch

from steering import vector_building
from steering.concept_files import load_concept
from steering.errors import DataError, SaeError
from steering.neutral import NeutralSet
from steering.vector_building import Recipe, build_vectors
from steering.vectors import SteeringVector


@pytest.mark.parametrize("toward", ["positive", "negative"])
def test_origin_names_the_concept_as_it_was_oriented(llama, concept_directory, toward):
    concept = load_concept(str(concept_directory), toward)
    first, second = build_vectors(llama, concept, Recipe("mean_difference", [1, 0], recommended_multiplier=2.5))
    for vector in (first, second):
        assert vector.origin.concept_hash == load_concept(str(concept_directory), toward).hash
        assert (vector.origin.toward, vector.origin.model_hash, vector.origin.layer_count) == (toward, llama.hash, 2)
        assert (vector.origin.versions["torch"], vector.recommended_multiplier) == (version("torch"), 2.5)
    assert (first.layer, second.layer) == (1, 0)


def test_losses_are_of_as_much_of_a_document_as_a_profile_measures(llama, concept_directory, monkeypatch):
    given = []

    def noted(activations, model, pairs, documents, positions, progress):
        given.extend(documents())
        return activations

    monkeypatch.setattr(vector_building, "with_losses", noted)
    texts = tuple(f"{start} road leads over the hills to a town, " * 9 for start in ("One", "Another"))
    short = "A road leads to the town, and it is long."
    neutral = NeutralSet("roads", (*texts, short))
    build_vectors(llama, load_concept(str(concept_directory)), Recipe("mean_difference", [0], neutral=neutral))
    for text, found in zip(neutral.documents, given, strict=True):
        ids = llama.tokenizer(text)["input_ids"]
        assert found.ids == tuple(ids[: 32 + 64])
        assert found.prompt_length == 32
    assert [len(found.ids) < 96 for found in given] == [False, False, True]


def test_a_method_that_follows_losses_notes_where_it_steered(llama, concept_directory):
    concept = load_concept(str(concept_directory))
    neutral = NeutralSet("roads", ("A road leads to the town, and it is long.",) * 3)
    everywhere, at_prompt = (
        build_vectors(llama, concept, Recipe("optimized", [1], {"steps": 2}, neutral=neutral, steered_positions=where))
        for where in ("all", "prompt")
    )
    assert [vector.origin.steered_positions for vector in (*everywhere, *at_prompt)] == ["all", "prompt"]
    assert everywhere[0].hash != at_prompt[0].hash
    [mean] = build_vectors(llama, concept, Recipe("mean_difference", [1], steered_positions="all"))
    assert mean.origin.steered_positions == ""


def test_recipe_without_what_its_method_reads_is_refused_before_a_model_is_needed():
    with pytest.raises(DataError, match="method 'optimized' needs the losses of neutral documents: give `neutral`"):
        Recipe("optimized", [0])
    with pytest.raises(SaeError, match="method 'feature_delta' reads features: give `saes`"):
        Recipe("feature_delta", [0])
    assert Recipe("optimized", [0], neutral=NeutralSet("one", ("A text.",))).neutral is not None


def test_vector_from_a_file_is_not_built_again_under_another_origin(tmp_path):
    SteeringVector(torch.ones(4), 1, "m", "c", "n").save(tmp_path / "v.safetensors")
    with pytest.raises(DataError, match="method 'stored' constructs nothing: its file is a vector already"):
        Recipe("stored", [1], {"path": str(tmp_path / "v.safetensors")})
