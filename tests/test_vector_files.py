"""What a vector's file says of its origin, and what is refused of a file that anybody may have written."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from steering.errors import NonFiniteError, VectorError
from steering.vectors import Origin, SteeringVector, load_vector

METADATA = {"layer": "1", "method": "m", "concept": "c", "model": "x", "parameters": "{}"}

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
origins = st.builds(
    Origin,
    model_hash=names,
    model_type=names,
    layer_count=st.none() | st.integers(2, 200),
    dtype=names,
    concept_hash=names,
    toward=names,
    sae=names,
    sae_hash=names,
    versions=st.dictionaries(names, names, max_size=3),
)


def vector(**fields) -> SteeringVector:
    return SteeringVector(torch.tensor([3.0, -4.0]), 1, "m", "c", "x", **fields)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(origin=origins, multiplier=st.none() | st.floats(-1e100, 1e100))
def test_origin_and_multiplier_are_saved_and_read_back(tmp_path, origin, multiplier):
    path = tmp_path / "v.safetensors"
    vector(origin=origin, recommended_multiplier=multiplier).save(path)
    found = load_vector(path)
    assert found.origin == origin
    assert found.recommended_multiplier == multiplier
    with safe_open(str(path), framework="np") as file:
        metadata = file.metadata()
    said = json.loads(metadata.get("origin", "{}"))
    assert said == ({} if origin == Origin() else asdict(origin))
    assert ("recommended_multiplier" in metadata) == (multiplier is not None)


def test_what_a_later_release_adds_to_the_origin_is_passed_over(tmp_path):
    metadata = {**METADATA, "origin": json.dumps({"dtype": "float16", "colour": "red"}), "else": "?"}
    save_file({"direction": torch.ones(3)}, str(tmp_path / "v.safetensors"), metadata=metadata)
    assert load_vector(tmp_path / "v.safetensors").origin == Origin(dtype="float16")


@pytest.mark.parametrize(
    ("key", "text", "fault"),
    [
        ("origin", "{", "origin is damaged: Invalid JSON"),
        ("origin", "[1]", "origin is damaged: it should be an object"),
        (
            "origin",
            '{"model_hash": 7}',
            "origin is damaged: model_hash is 7; it should be a valid string",
        ),
        (
            "origin",
            '{"layer_count": "30"}',
            "origin is damaged: layer_count is '30'; it should be a valid integer",
        ),
        ("origin", '{"versions": {"torch": null}}', "versions.torch is None; it should be a valid string"),
        ("origin", '{"layer_count": 1}', "its model has 1 blocks, counted from 0"),
        ("origin", "[" * 5000, "origin is damaged: Invalid JSON: recursion limit exceeded"),
        (
            "recommended_multiplier",
            '"12"',
            "recommended_multiplier is damaged: it should be a valid number",
        ),
        (
            "recommended_multiplier",
            "null",
            "recommended_multiplier is damaged: it should be a valid number",
        ),
        ("recommended_multiplier", "NaN", "its recommended multiplier is nan"),
        ("recommended_multiplier", "1e999", "its recommended multiplier is inf"),
        ("recommended_multiplier", "1e101", "its recommended multiplier is 1e+101; 1e+100 is the largest"),
    ],
)
def test_damaged_provenance_is_one_line(tmp_path, key, text, fault):
    path = tmp_path / "v.safetensors"
    save_file({"direction": torch.ones(3)}, str(path), metadata={**METADATA, key: text})
    with pytest.raises(VectorError) as caught:
        load_vector(path)
    assert str(caught.value).startswith(f"{path}: not a steering vector file: ")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_that_no_terminal_could_show_are_one_message(call, tmp_path):
    path = tmp_path / "v.safetensors"
    half = {**METADATA, "parameters": r'{"a": "\ud800"}'}
    save_file({"direction": torch.ones(3)}, str(path), metadata=half)
    for options in ((), ("--json",)):
        status, out, err = call("vector", "show", path, *options)
        assert (status, out) == (2, "")
        assert err.startswith(f"error: {path}: not a steering vector file: parameters is damaged: Invalid JSON: ")
        assert len(err.splitlines()) == 1


def test_a_file_that_is_too_large_for_a_vector_is_not_opened(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: it takes no room on disk, and would take all of the memory
    with pytest.raises(VectorError, match=r"model\.safetensors: not a steering vector file: 1099511627776 bytes"):
        load_vector(path)


def test_a_layer_that_the_model_does_not_have_is_refused():
    with pytest.raises(VectorError, match=r"m-layer1: its model has 1 blocks"):
        vector(origin=Origin(layer_count=1))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_recommended_multiplier_that_is_not_finite_is_refused(wrong):
    with pytest.raises(NonFiniteError, match="recommended multiplier is"):
        vector(recommended_multiplier=wrong)


def test_a_vector_is_written_whole_or_not_at_all(tmp_path, fill_disk):
    path = tmp_path / "v.safetensors"
    vector(recommended_multiplier=3.0).save(path)
    before = path.read_bytes()
    fill_disk()
    with pytest.raises(VectorError, match=r"steering vector m-layer1: .*v\.safetensors: cannot be written: No space"):
        vector(recommended_multiplier=4.0).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["missing/v.safetensors", "."])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    with pytest.raises(VectorError, match="cannot be written"):
        vector().save(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


def test_provenance_that_is_no_json_is_one_message_and_leaves_no_file(tmp_path):
    for changes in ({"parameters": {"a": np.float32(1)}}, {"method": None}):
        with pytest.raises(VectorError, match="steering vector"):
            dataclasses.replace(vector(), **changes).save(tmp_path / "v.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_path_may_be_a_string(tmp_path):
    path = str(tmp_path / "v.safetensors")
    vector().save(path)
    assert load_vector(path).hash == vector().hash
