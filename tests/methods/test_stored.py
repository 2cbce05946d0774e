"""Vectors that exist already: from another program's file into the benchmark's."""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from steering.errors import DataError, VectorError
from steering.journal import load_rows
from steering.methods import construct, create_method, methods
from steering.metrics import metrics
from steering.profile_files import load_profile
from steering.profiles import MethodPlan
from steering.sweeps.stored_vectors import with_vectors
from steering.vector_export import to_gguf
from steering.vector_import import read_direction, read_model_type
from steering.vectors import Intervention, SteeringVector, load_vector
from tests.documents import ROOT, code_blocks
from tests.planted import D_MODEL, planted_activations, planted_direction

# Loaded here, since pytester forgets the modules that are first imported while it runs.
PLUGINS = (*methods, *metrics)
DIRECTION = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(7))


def stored(path: Path, direction: torch.Tensor = DIRECTION, layer: int = 5) -> str:
    SteeringVector(direction, layer, "m", "c", "model", recommended_multiplier=2.0).save(path)
    return str(path)


_directory = tempfile.TemporaryDirectory()
#: For the conformance suite, whose cases are made before there is a test.
PLANTED_VECTOR = stored(Path(_directory.name) / "v.safetensors")


def test_stored_vector_is_the_file_s_whatever_the_pairs(tmp_path):
    path = stored(tmp_path / "v.safetensors")
    found = construct("stored", planted_activations(planted_direction()), 3, {"path": path})
    assert torch.equal(found.direction, DIRECTION)
    assert (found.method, found.layer, dict(found.parameters)) == ("stored", 3, {"path": path})


def test_stored_vector_of_another_width_is_refused(tmp_path):
    method = create_method("stored", {"path": stored(tmp_path / "v.safetensors", torch.ones(7))})
    with pytest.raises(VectorError, match=r"v.safetensors: the vector has 7 numbers, and the residual stream of none"):
        method.fit(planted_activations(planted_direction()), 5)


def test_file_without_a_vector_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(VectorError, match="no such file"):
        create_method("stored", {"path": str(tmp_path / "v.safetensors")})
    with pytest.raises(DataError, match=r"method 'stored': missing path"):
        create_method("stored", {})


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=9))
def test_only_tensor_of_a_file_is_read_to_the_last_bit(numbers):
    direction = torch.tensor(numbers)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "v.safetensors"
        save_file({"anything": direction}, path)
        assert torch.equal(read_direction(path, 3), direction)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_become_float32(tmp_path, dtype):
    save_file({"a": DIRECTION.to(dtype), "b": torch.ones(2)}, tmp_path / "v.safetensors")
    found = read_direction(tmp_path / "v.safetensors", 3, "a")
    assert torch.equal(found, DIRECTION.to(dtype).float())


def test_control_vectors_come_back_as_they_were_exported(tmp_path):
    vectors = [SteeringVector(DIRECTION * layer, layer, "m", "c", "model") for layer in (2, 5)]
    (tmp_path / "v.gguf").write_bytes(to_gguf([Intervention(vector, 3.0) for vector in vectors], "llama"))
    for vector in vectors:
        assert torch.equal(read_direction(tmp_path / "v.gguf", vector.layer), vector.direction * 3.0)


def quantised(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_tensor("direction.3", np.zeros(34, np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("v.safetensors", lambda path: save_file({"a": DIRECTION, "b": -DIRECTION}, path), "several tensors; name one"),
        ("v.safetensors", lambda path: save_file({"a": torch.ones(2, 3)}, path), r"found torch.float32 (2, 3)"),
        ("v.safetensors", lambda path: save_file({"a": torch.ones(2, dtype=torch.int32)}, path), "found torch.int32"),
        ("v.safetensors", lambda path: path.write_bytes(b"\x80\x04."), "not a safetensors file"),
        ("v.safetensors", lambda path: path.write_bytes(b"x" * (17 << 20)), "at most 16777216 are read"),
        ("v.safetensors", lambda path: path.mkdir(), "no such file"),
        ("v.pt", lambda path: torch.save({"a": DIRECTION}, path), "a pickle, which can run code"),
        ("v.gguf", lambda path: path.write_bytes(b"GGUF" + b"\xff" * 100), "cannot be read as a control vector"),
        ("v.gguf", lambda path: path.write_bytes(b""), "cannot be read as a control vector"),
        ("v.gguf", quantised, "direction.3 is Q8_0; F32 or F16 is required"),
        (
            "v.gguf",
            lambda path: path.write_bytes(
                to_gguf([Intervention(SteeringVector(DIRECTION, 2, "m", "c", "x"), 1.0)], "llama")
            ),
            "no tensor 'direction.3'. It holds: direction.2",
        ),
    ],
)
def test_what_holds_no_direction_is_one_message(tmp_path, name, write, told):
    write(tmp_path / name)
    with pytest.raises(VectorError, match=re.escape(told)) as caught:
        read_direction(tmp_path / name, 3)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_path_that_cannot_be_looked_at_is_one_message(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path / ("long" * 100 + ".gguf"), tmp_path):
        with pytest.raises(VectorError, match="no such file"):
            read_direction(path, 3)


@pytest.mark.parametrize("cut", range(0, 700, 23))
def test_damaged_control_vectors_are_one_message_or_a_direction(tmp_path, cut):
    content = to_gguf([Intervention(SteeringVector(DIRECTION, 3, "m", "c", "model"), 1.0)], "llama")
    for damaged in (content[:cut], content[:cut] + bytes([content[cut % len(content)] ^ 0xFF]) + content[cut + 1 :]):
        (tmp_path / "v.gguf").write_bytes(damaged)
        with contextlib.suppress(VectorError):  # no other error, whatever gguf's reader makes of it
            assert read_direction(tmp_path / "v.gguf", 3).ndim == 1
            assert isinstance(read_model_type(tmp_path / "v.gguf"), str)


def test_import_writes_a_vector_that_the_benchmark_measures(call, bench, arguments, model_directory, tmp_path):
    width = 32
    direction = torch.randn(width, generator=torch.Generator().manual_seed(1))
    save_file({"mine": direction}, tmp_path / "theirs.safetensors")
    output = tmp_path / "queens.safetensors"
    status, out, _ = call(
        *("vector", "import", tmp_path / "theirs.safetensors", "--layer", "1", "--multiplier", "3"),
        *("--output", output, "--name", "probe"),
    )
    assert status == 0
    assert f"Measure it and its control, in a checkout: pytest bench --vector {output} -k queens\n" in out
    vector = load_vector(output)
    assert (vector.method, vector.layer, vector.recommended_multiplier) == ("probe", 1, 3.0)
    assert torch.equal(vector.direction, direction)
    result = bench(*arguments, "--vector", str(output), "-k", "queens")
    result.assert_outcomes(passed=2, deselected=4)
    assert "is about" not in result.stdout.str()
    rows = {row.method: row for row in load_rows(tmp_path / "results") if row.metric == "rollout_probability"}
    assert set(rows) == {"unsteered", "queens", "queens_control"}
    own, control = rows["queens"], rows["queens_control"]
    assert (own.vector_hash, own.multiplier, own.control) == (vector.hash, 3.0, "queens_control")
    assert own.p_control is not None
    added = [row.multiplier * row.vector_norm for row in (own, control)]
    assert added[0] == pytest.approx(added[1], rel=1e-5) == pytest.approx(3 * float(direction.norm()), rel=1e-5)
    assert control.is_control


def test_imported_vector_whose_model_is_not_known_contradicts_nothing(call, model_directory, tmp_path):
    save_file({"a": torch.ones(32)}, tmp_path / "theirs.safetensors")
    output = tmp_path / "v.safetensors"
    assert call("vector", "import", tmp_path / "theirs.safetensors", "--layer", "1", "--output", output)[0] == 0
    place = ("--model", model_directory, "--dtype", "float32", "--device", "cpu", "--new-tokens", "1")
    status, _, err = call("vector", "apply", output, "Once upon a time", *place)
    assert status == 0
    assert "note" not in err
    assert "model" not in call("vector", "show", output)[1].replace("d model", "")


def test_import_of_a_file_that_is_not_there_is_one_message(call, tmp_path):
    (tmp_path / "v.safetensors").touch()
    command = (
        "vector",
        "import",
        tmp_path / "theirs.safetensors",
        "--layer",
        "1",
        "--output",
        tmp_path / "v.safetensors",
    )
    status, _, err = call(*command)
    assert (status, err) == (2, f"error: {tmp_path / 'theirs.safetensors'}: no such file\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--output", "v.pt"), "a file whose name ends in .safetensors is required"),
        (("--output", "theirs.safetensors"), "that is the file to import; name another"),
        (("--output", "v.safetensors", "--tensor", "b"), "no tensor 'b'. It holds: a"),
        (("--output", "my v.safetensors"), "name the file with letters, digits"),
    ],
)
def test_mistakes_of_an_import_are_one_message_and_leave_no_file(call, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    save_file({"a": DIRECTION}, "theirs.safetensors")
    before = (tmp_path / "theirs.safetensors").read_bytes()
    status, _, err = call("vector", "import", "theirs.safetensors", "--layer", "1", *options)
    assert status != 0
    assert told in err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.safetensors"]
    assert (tmp_path / "theirs.safetensors").read_bytes() == before


def test_a_vector_of_this_project_is_not_imported_again(call, tmp_path):
    SteeringVector(DIRECTION, 20, "m", "c", "model").save(tmp_path / "v.safetensors")
    command = ("vector", "import", tmp_path / "v.safetensors", "--layer", "3", "--output", tmp_path / "w.safetensors")
    status, _, err = call(*command)
    assert (status, err) == (
        2,
        f"error: {tmp_path / 'v.safetensors'}: a steering vector file already; use it as it is\n",
    )
    assert not (tmp_path / "w.safetensors").exists()


def test_profile_of_the_document_says_what_the_option_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SteeringVector(DIRECTION, 20, "m", "c", "model", recommended_multiplier=1.0).save(Path("mine.safetensors"))
    [methods_table] = code_blocks(ROOT / "docs" / "vectors.md", "toml")
    keys = 'description = "x"\nmodel = "m"\nconcept = "c"\nneutral = "n"\n'
    Path("written.toml").write_text(keys + methods_table, encoding="utf-8")
    written = load_profile("written.toml")
    other = MethodPlan("mean_difference", 1.0)
    made = with_vectors(replace(written, methods=(other,)), [Path("mine.safetensors")], None)
    assert made.methods[1:] == (replace(written.plan("mine"), claimed_layers=()), written.plan("mine_control"))


def test_control_vector_tells_of_which_type_its_model_is_and_can_be_exported_again(call, tmp_path):
    content = to_gguf([Intervention(SteeringVector(DIRECTION, 3, "m", "c", "model"), 2.0)], "llama")
    (tmp_path / "v.gguf").write_bytes(content)
    back, again = tmp_path / "back.safetensors", tmp_path / "again.gguf"
    assert call("vector", "import", tmp_path / "v.gguf", "--layer", "3", "--output", back)[0] == 0
    assert load_vector(back).origin.model_type == "llama"
    assert call("vector", "export", back, "--format", "gguf", "--output", again)[0] == 0
    assert torch.equal(read_direction(again, 3), DIRECTION * 2)


def test_control_vector_that_names_no_model_is_imported_without(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    writer.add_tensor("direction.3", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_direction(tmp_path / "v.gguf", 3).tolist() == [0.0] * 4
    assert read_model_type(tmp_path / "v.gguf") == read_model_type(tmp_path / "v.safetensors") == ""
