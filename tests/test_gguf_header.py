"""Headers of GGUF files that announce more than there is, or than a reader could get through."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from steering.errors import ModelError, VectorError
from steering.gguf_header import check_header
from steering.models.loading import layer_count, load_model
from steering.models.pretrained import _MOST_ANNOUNCED
from steering.vector_import import read_direction
from tests.documents import ROOT

MOST = 1000
TYPES = gguf.GGUFValueType


def header(value: bytes, values: int = 1, tensors: int = 0, version: int = 3) -> bytes:
    """A file with one value, called "k", whatever its header says."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values) + string(b"k") + value


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def array(kind: int, elements: int, content: bytes = b"") -> bytes:
    return struct.pack("<IIQ", TYPES.ARRAY, kind, elements) + content


BOMB = header(array(TYPES.UINT8, 2**62))
NESTED = header(struct.pack("<I", TYPES.ARRAY) + struct.pack("<IQ", TYPES.ARRAY, 1) * 3000 + bytes(13))
LONG = header(array(TYPES.UINT8, 2 << 20, bytes(2 << 20)))
NUMBER = struct.pack("<IB", TYPES.UINT8, 7)


def written(path: Path, order: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE) -> Path:
    """A file of gguf's own with a value of every type and one tensor: 19 things are announced."""
    writer = gguf.GGUFWriter(path, "controlvector", endianess=order)  # which it says in a value of its own
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"):
        getattr(writer, f"add_{kind}")(kind, 1)
    writer.add_bool("bool", True)
    writer.add_array("strings", ["a", ""])
    writer.add_array("numbers", [1, 2])
    writer.add_tensor("direction.1", np.ones(4, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


@pytest.mark.parametrize("order", list(gguf.GGUFEndian))
def test_header_of_a_sound_file_is_let_through_and_its_announcements_are_counted(tmp_path, order):
    path = written(tmp_path / "v.gguf", order)
    announced = 14 + 4 + 1  # values, elements, tensors
    check_header(path, announced)
    with pytest.raises(ValueError, match=f"announces more than {announced - 1} tensors, values and elements of arrays"):
        check_header(path, announced - 1)


def test_header_that_is_cut_anywhere_is_refused(tmp_path):
    written(tmp_path / "v.gguf")
    content = (tmp_path / "v.gguf").read_bytes()
    [tensor] = gguf.GGUFReader(tmp_path / "v.gguf").tensors
    for cut in range(4, tensor.field.offset):
        (tmp_path / "cut.gguf").write_bytes(content[:cut])
        with pytest.raises(ValueError, match="it ends before all that its header announces"):
            check_header(tmp_path / "cut.gguf", MOST)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (BOMB, "announces more than 1000"),
        (LONG, "announces more than 1000"),
        (NESTED, "an array of arrays"),
        (header(NUMBER, values=2**62), "announces more than 1000"),
        (header(NUMBER, tensors=2**62), "announces more than 1000"),
        (header(NUMBER, values=2), "it ends before"),
        (header(struct.pack("<IQ", TYPES.STRING, 2**63)), "it ends before"),
        (header(array(TYPES.FLOAT64, 9, bytes(71))), "it ends before"),
        (header(struct.pack("<I", 13)), "a value of type 13, which is none"),
        (header(array(13, 1)), "a value of type 13, which is none"),
        (b"", "empty"),
    ],
)
def test_header_that_no_reader_would_get_through_is_refused(tmp_path, content, fault):
    (tmp_path / "v.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=fault):
        check_header(tmp_path / "v.gguf", MOST)


@pytest.mark.parametrize("content", [b"GGML" + bytes(40), header(NUMBER, values=2**62, version=1)])
def test_what_the_reader_refuses_at_once_is_left_to_it(tmp_path, content):
    (tmp_path / "v.gguf").write_bytes(content)
    check_header(tmp_path / "v.gguf", MOST)
    with pytest.raises(VectorError, match=r"v\.gguf: cannot be read as a control vector: .*(?:magic|version 1)"):
        read_direction(tmp_path / "v.gguf", 1)


def test_vocabulary_of_a_large_model_is_let_through(tmp_path):
    tokens = array(TYPES.STRING, 300_000, b"".join(string(b"token%d" % number) for number in range(300_000)))
    (tmp_path / "m.gguf").write_bytes(header(tokens))
    check_header(tmp_path / "m.gguf", _MOST_ANNOUNCED)


def test_import_of_a_file_that_announces_too_much_is_one_message_at_once(tmp_path):
    """In another process: gguf's reader would not come back, and take more memory all the time."""
    code = (
        "import sys; from pathlib import Path; from steering.errors import VectorError\n"
        "from steering.vector_import import read_direction\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_direction(Path(path), 1)\n"
        "    except VectorError as error: print(error)\n"
    )
    paths = [tmp_path / name for name in ("nested.gguf", "long.gguf", "bomb.gguf")]
    for path, content in zip(paths, (NESTED, LONG, BOMB), strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    faults = ("its header has an array of arrays", *["its header announces more than 10000 tensors, values and"] * 2)
    for line, path, fault in zip(done.stdout.splitlines(), paths, faults, strict=True):
        assert line.startswith(f"{path}: cannot be read as a control vector: {fault}")


def test_model_whose_header_cannot_be_read_is_one_message(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(NESTED)
    for read in (layer_count, lambda source: load_model(source, torch.device("cpu"), torch.float32)):
        with pytest.raises(ModelError, match="cannot be loaded: its header has an array of arrays. Give 'embedded'"):
            read(str(path))
