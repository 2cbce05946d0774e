"""What `steering vector` may write over."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from steering.cli.main import app
from steering.cli.vector_exchange import require_output
from steering.errors import DataError
from steering.vectors import SteeringVector


def vector_file(path):
    SteeringVector(torch.ones(4), 1, "m", "c", "model", recommended_multiplier=2.0).save(path)
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model.pt"])
def test_a_file_that_is_no_vector_is_kept(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file({"weight": torch.ones(2, 2)}, str(path))
    else:
        path.write_bytes(b"GGUF and something else")
    before = path.read_bytes()
    with pytest.raises(DataError, match=f"{name}: a file is there that is not known to be a vector; name another"):
        require_output(path, path.suffix)
    assert path.read_bytes() == before


def test_vectors_are_replaced_whoever_reads_them(tmp_path):
    source = vector_file(tmp_path / "v.safetensors")
    require_output(source, ".safetensors")
    export = ["vector", "export", str(source), "--format", "gguf", "--model-type", "llama"]
    for _ in range(2):
        result = CliRunner().invoke(app, [*export, "--output", str(tmp_path / "v.gguf")])
        assert result.exit_code == 0, result.output


def test_a_vector_of_no_length_is_told(tmp_path):
    save_file({"direction": torch.zeros(4)}, str(tmp_path / "zero.safetensors"))
    options = ["--layer", "1", "--output", str(tmp_path / "v.safetensors")]
    result = CliRunner().invoke(app, ["vector", "import", str(tmp_path / "zero.safetensors"), *options])
    assert result.exit_code == 0
    assert "its norm is 0, so that it changes nothing" in result.stderr


def test_text_in_another_encoding_is_one_message(call, tmp_path):
    file = vector_file(tmp_path / "v.safetensors")
    wrong = b"x\xff".decode(errors="surrogateescape")
    for arguments, option in (
        (["apply", file, wrong], "PROMPT"),
        (["export", file, "--format", "gguf", "--output", tmp_path / "e.gguf", "--model-type", wrong], "--model-type"),
    ):
        status, _, err = call("vector", *arguments)
        assert (status, err) == (2, f"error: {option} 'x\\udcff': not in the encoding of this terminal\n")
