"""Steering vectors: their files, their identity and what they add."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from steering.errors import NonFiniteError, SteeringError, UnknownNameError, VectorError
from steering.feature_weights import FeatureWeight
from steering.vectors import Intervention, SteeringVector, load_vector

METADATA = {"layer": "1", "method": "m", "concept": "c", "model": "x", "parameters": "{}"}

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
parameters = st.dictionaries(
    names, st.one_of(names, st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.booleans()), max_size=4
)


def vector(direction: torch.Tensor | None = None, layer: int = 3) -> SteeringVector:
    direction = torch.tensor([0.1, -2.0, 3.5]) if direction is None else direction
    return SteeringVector(direction, layer, "mean_difference", "royalty", "small")


def write_foreign(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Path:
    save_file(tensors, str(path), metadata=metadata)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    direction=st.lists(floats, min_size=1, max_size=20),
    layer=st.integers(0, 200),
    labels=st.tuples(names, names, names),
    parameters=parameters,
)
def test_a_saved_vector_is_read_back_to_the_last_bit(tmp_path, direction, layer, labels, parameters):
    saved = SteeringVector(torch.tensor(direction), layer, *labels, parameters)
    saved.save(tmp_path / "v.safetensors")
    found = load_vector(tmp_path / "v.safetensors")
    assert found.direction.numpy().tobytes() == np.array(direction, dtype=np.float32).tobytes()
    assert (found.layer, found.method, found.concept, found.model) == (layer, *labels)
    assert found.parameters == parameters
    assert {key: type(value) for key, value in found.parameters.items()} == {
        key: type(value) for key, value in parameters.items()
    }
    assert found.hash == saved.hash


def test_a_row_and_a_column_of_a_matrix_can_be_saved(tmp_path):
    matrix = torch.arange(12.0).reshape(3, 4)
    for direction, expected in ((matrix[1], [4, 5, 6, 7]), (matrix[:, 1], [1, 5, 9])):
        vector(direction).save(tmp_path / "v.safetensors")
        assert load_vector(tmp_path / "v.safetensors").direction.tolist() == expected
        assert vector(direction).hash == vector(torch.tensor(expected, dtype=torch.float32)).hash


def test_the_file_is_plain_safetensors_with_the_provenance_as_metadata(tmp_path):
    SteeringVector(torch.ones(2), 20, "m", "c", "x", {"seed": 3}).save(tmp_path / "v.safetensors")
    with safe_open(str(tmp_path / "v.safetensors"), framework="np") as file:
        metadata = file.metadata()
        assert file.get_tensor("direction").tolist() == [1.0, 1.0]
    assert json.loads(metadata.pop("parameters")) == {"seed": 3}
    assert json.loads(metadata.pop("features")) == []
    assert metadata == {"layer": "20", "method": "m", "concept": "c", "model": "x"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            FeatureWeight,
            feature=st.integers(0, 2**40),
            weight=st.floats(allow_nan=False, allow_infinity=False),
            description=names,
        ),
        max_size=4,
    )
)
def test_features_are_saved_and_read_back(tmp_path, features):
    SteeringVector(torch.ones(2), 20, "m", "c", "x", {}, tuple(features)).save(tmp_path / "v.safetensors")
    assert load_vector(tmp_path / "v.safetensors").features == tuple(features)
    with safe_open(str(tmp_path / "v.safetensors"), framework="np") as file:
        found = json.loads(file.metadata()["features"])
    assert [(entry["feature"], entry["weight"], entry["description"]) for entry in found] == [
        (feature.feature, feature.weight, feature.description) for feature in features
    ]


def test_a_file_from_before_there_were_features_has_none(tmp_path):
    path = write_foreign(tmp_path / "old.safetensors", {"direction": torch.ones(3)}, METADATA)
    found = load_vector(path)
    assert (found.features, found.layer, found.direction.tolist()) == ((), 1, [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        ("{", "Invalid JSON: EOF while parsing an object"),
        ("", "Invalid JSON: EOF while parsing a value"),
        ("7", "it should be a valid array"),
        ("[7]", "0 is 7; "),
        ('[{"feature": 7}]', "missing 0.weight, 0.description"),
        ('[{"feature": "7", "weight": 0.5, "description": ""}]', "0.feature is '7'; it should be a valid integer"),
        ('[{"feature": 7, "weight": 0.5, "description": null}]', "0.description is None; it should be a valid string"),
        ("[" * 5000, "Invalid JSON: recursion limit exceeded"),
    ],
)
def test_damaged_features_are_one_line(tmp_path, features, fault):
    metadata = {**METADATA, "features": features}
    path = write_foreign(tmp_path / "v.safetensors", {"direction": torch.ones(3)}, metadata)
    with pytest.raises(VectorError) as caught:
        load_vector(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a steering vector file: features is damaged: {fault}")
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("direction", "found"),
    [
        (torch.ones(2, 3), r"torch\.float32 \(2, 3\)"),
        (torch.tensor(1.0), r"torch\.float32 \(\)"),
        (torch.ones(3, dtype=torch.float64), r"torch\.float64 \(3,\)"),
        (torch.ones(3, dtype=torch.bfloat16), r"torch\.bfloat16 \(3,\)"),
        (torch.ones(3, dtype=torch.int64), r"torch\.int64 \(3,\)"),
    ],
)
def test_anything_but_one_float32_direction_is_refused(direction, found):
    with pytest.raises(VectorError, match=rf"mean_difference-layer3: a float32 direction.* found {found}"):
        vector(direction)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_direction_that_is_not_finite_is_refused(wrong):
    with pytest.raises(NonFiniteError, match=r"mean_difference-layer3.*NaN or infinity"):
        vector(torch.tensor([1.0, wrong]))


@pytest.mark.parametrize("layer", [-1, 1.0, True])
def test_a_layer_that_is_no_block_is_refused(layer):
    with pytest.raises(VectorError, match=rf"mean_difference-layer{layer}: its layer is {layer}; .*counted from 0"):
        vector(layer=layer)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.safetensors"
    with pytest.raises(VectorError, match=r"none\.safetensors: no such file"):
        load_vector(path)
    with pytest.raises(VectorError, match="no such file"):
        load_vector(tmp_path / ("long" * 100))  # which the file system refuses to look at
    with pytest.raises(VectorError, match="a directory, not a file") as caught:
        load_vector(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 30, -1, -12])
def test_a_truncated_file_is_named(tmp_path, length):
    path = tmp_path / "cut.safetensors"
    vector().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(VectorError, match="not a steering vector file") as caught:
        load_vector(path)
    assert str(path) in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(tmp_path, content):
    path = tmp_path / "noise.safetensors"
    path.write_bytes(content)
    with pytest.raises(VectorError, match=r"noise\.safetensors: not a steering vector file"):
        load_vector(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 2**16), byte=st.integers(0, 255))
def test_a_damaged_byte_gives_a_vector_or_one_error_of_this_library(tmp_path, position, byte):
    path = tmp_path / "damaged.safetensors"
    vector().save(path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = byte
    path.write_bytes(content)
    try:
        found = load_vector(path)
    except SteeringError:
        return
    assert found.direction.shape == (3,)


@pytest.mark.parametrize(
    ("tensors", "metadata", "missing"),
    [
        ({"weight": torch.ones(3)}, METADATA, "direction"),
        ({"direction": torch.ones(3)}, None, "layer"),
        ({"direction": torch.ones(3)}, {"format": "pt"}, "layer"),
        ({"direction": torch.ones(3)}, {**METADATA, "layer": "first"}, "'first'"),
        ({"direction": torch.ones(3)}, {**METADATA, "parameters": "{"}, "line 1"),
    ],
)
def test_a_safetensors_file_of_something_else_is_refused(tmp_path, tensors, metadata, missing):
    path = write_foreign(tmp_path / "foreign.safetensors", tensors, metadata)
    with pytest.raises(VectorError, match=rf"foreign\.safetensors: not a steering vector file.*{missing}"):
        load_vector(path)


@pytest.mark.parametrize(
    ("direction", "metadata", "message"),
    [
        (torch.ones(3).half(), METADATA, "float16"),
        (torch.ones(2, 2), METADATA, r"\(2, 2\)"),
        (torch.ones(3), {**METADATA, "layer": "-1"}, "counted from 0"),
        (torch.tensor([1.0, math.nan]), METADATA, "NaN or infinity"),
    ],
)
def test_a_file_with_a_vector_that_cannot_be_used_is_refused(tmp_path, direction, metadata, message):
    path = write_foreign(tmp_path / "unusable.safetensors", {"direction": direction}, metadata)
    with pytest.raises(SteeringError, match=message):
        load_vector(path)


@pytest.mark.parametrize("direction", [torch.ones(3).half(), torch.tensor([math.nan])])
def test_a_file_with_a_vector_that_cannot_be_used_is_named(tmp_path, direction):
    path = write_foreign(tmp_path / "unusable.safetensors", {"direction": direction}, METADATA)
    with pytest.raises(VectorError, match=r"unusable\.safetensors"):
        load_vector(path)


def test_a_file_whose_parameters_are_no_object_is_refused(tmp_path):
    path = write_foreign(tmp_path / "v.safetensors", {"direction": torch.ones(3)}, {**METADATA, "parameters": "[1]"})
    with pytest.raises(VectorError, match=r"v\.safetensors.*parameters"):
        load_vector(path)


def test_pickles_are_never_loaded(tmp_path):
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self):
            return Path.touch, (opened,)

    path = tmp_path / "pickle.safetensors"
    torch.save({"direction": torch.ones(3), "trap": Trap()}, path)
    with pytest.raises(VectorError, match=r"pickle\.safetensors: not a steering vector file"):
        load_vector(path)
    assert not opened.exists()


@given(first=st.lists(floats, min_size=1, max_size=4), second=st.lists(floats, min_size=1, max_size=4))
def test_the_hash_tells_directions_apart(first, second):
    bits = [np.array(values, dtype=np.float32).tobytes() for values in (first, second)]
    hashes = [vector(torch.tensor(values)).hash for values in (first, second)]
    assert (hashes[0] == hashes[1]) == (bits[0] == bits[1])


def test_the_hash_is_of_direction_and_layer_alone():
    assert len({vector(layer=layer).hash for layer in range(30)}) == 30
    features = (FeatureWeight(7, 0.5, "kings"),)
    other = SteeringVector(torch.tensor([0.1, -2.0, 3.5]), 3, "other", "else", "large", {"seed": 1}, features)
    assert other.hash == vector().hash


def test_the_norm_is_euclidean():
    assert vector(torch.tensor([3.0, 0.0, -4.0])).norm == 5.0


@given(direction=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8), multiplier=st.floats(-100, 100))
def test_the_addition_is_the_direction_times_the_multiplier(direction, multiplier):
    addition = Intervention(vector(torch.tensor(direction)), multiplier).addition
    assert addition.dtype == torch.float32
    np.testing.assert_allclose(addition.numpy(), np.array(direction) * multiplier, rtol=1e-6, atol=1e-30)


@given(st.lists(floats, min_size=1, max_size=8))
def test_a_zero_multiplier_adds_nothing(direction):
    assert not Intervention(vector(torch.tensor(direction)), 0.0).addition.any()


def test_positions_that_there_are_not_are_refused():
    with pytest.raises(UnknownNameError, match=r"unknown positions 'generated'\. Known: all, prompt"):
        Intervention(vector(torch.ones(3)), 1.0, "generated")


@pytest.mark.parametrize("size", [1e30, 1e-20, 3e-23, 1e-30])
def test_direction_whose_squares_are_beyond_float32_has_a_norm(size):
    assert SteeringVector(torch.full((4,), size), 0, "m", "c", "n").norm == pytest.approx(2 * size, rel=1e-6)
