"""Captured activations on disk, so that a model reads the same texts once.

A file holds one layer of one set of texts, and is named by a hash of all that the numbers in it depend on. Two
processes that write the same file write the same numbers, so that the last one may win. What is found in a file is
checked; a file that is not as it should be is captured again. A cache that cannot be written costs time, never a run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy.sparse import csr_array

from steering.files import PART_SUFFIX, replace_file
from steering.hashing import json_hash
from steering.models.identity import configuration
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText
from steering.paths import cache_directory
from steering.progress import Reporter
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.contrast_features import TOKEN_RULES, TokenRule

#: Of the files. It is raised where other numbers are to be kept, or the same in another way.
FORMAT = 1
#: Bytes that the files of one cache may take.
LIMIT = 2 << 30

# Whose code decides about the last bits of what is kept.
_LIBRARIES = ("nnsight", "sae-lens", "torch", "transformers")
_MODULES = (
    "activations",
    "models/attention",
    "models/batching",
    "models/families",
    "models/identity",
    "models/language_model",
    "models/loading",
    "models/packing",
    "models/pretrained",
    "sae/autoencoder",
    "sae/config_file",
    "sae/contrast_features",
    "sae/encoding",
)
_SUFFIX = ".safetensors"
# Variables that decide which instructions, and so which order of sums, a matrix product has.
_RESTRICTING = ("ATEN_CPU_", "DNNL_", "MKL_", "ONEDNN_")
# No write takes so long: what is older was left by a kill.
_ABANDONED_SECONDS = 3600
_RESIDUALS, _DIGEST = "residuals", "digest"
# Of a sparse matrix, with their types; scipy chooses one of the two.
_PARTS = {"values": ("float32",), "columns": ("int32", "int64"), "ends": ("int32", "int64")}


@dataclass(frozen=True, eq=False)
class LayerActivations:
    """What is kept of one layer of a set of texts.

    Attributes:
        residuals: At the last token of each text, `[text, d_model]`, float32.
        features: Token rule -> `[text, d_sae]`, float32, sparse; empty where no SAE was read.
    """

    residuals: torch.Tensor
    features: Mapping[TokenRule, csr_array] = field(default_factory=dict)


@dataclass(frozen=True)
class Unit:
    """What one file of the cache stands for.

    Attributes:
        key: SHA-256 of all that the activations depend on.
        text_count: How many texts they are of.
        d_model: Width of the residual stream.
        d_sae: Number of features; None where no SAE is read.
    """

    key: str
    text_count: int
    d_model: int
    d_sae: int | None


def units_of(
    model: LanguageModel,
    texts: Sequence[TokenizedText],
    layers: Sequence[int],
    saes: Mapping[int, SparseAutoencoder],
) -> dict[int, Unit]:
    """Say what the activations of some texts at each layer depend on.

    Args:
        model: The model that reads them.
        texts: All texts that are captured together: which of them share a batch can change the last bits.
        layers: Blocks whose output is read.
        saes: Layer -> the SAE that is read there.
    """
    shared = json_hash([_circumstances(model), [[text.prompt_length, *text.ids] for text in texts]])
    units = {}
    for layer in layers:
        sae = saes.get(layer)
        key, d_sae = (["", {}], None) if sae is None else ([sae.hash, sae.settings], sae.d_sae)
        units[layer] = Unit(json_hash([shared, layer, *key]), len(texts), model.d_model, d_sae)
    return units


def _circumstances(model: LanguageModel) -> dict[str, Any]:
    """All but the texts: equal weights compute other numbers by another configuration, and other bits elsewhere."""
    on_gpu = model.device.type == "cuda"
    processor = [torch.cpu.get_capabilities(), torch.backends.cpu.get_cpu_capability()]
    return {
        "format": FORMAT,
        "code": _code_hash(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "model": model.hash,
        "config": configuration(model.module.config),
        "attention": getattr(model.module.config, "_attn_implementation", None),
        "dtype": str(model.dtype),
        "device": model.device.type,
        "processor": torch.cuda.get_device_name(model.device) if on_gpu else processor,
        "threads": torch.get_num_threads(),
        "matrix products": torch.get_float32_matmul_precision(),
        "restrictions": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_RESTRICTING)},
        "tokens of a batch": model.token_budget,
    }


@functools.cache
def _code_hash() -> str:
    package = resources.files("steering")
    return json_hash([package.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in _MODULES])


class ActivationCache:
    """A directory of activations, in which the files used longest ago make room for new ones.

    Args:
        directory: Where the files are; by default in the project's cache, see
            `steering.paths.cache_directory`.
        limit: Bytes that the files may take.
        fresh: Read nothing: activations are captured anew, and take the place of those that are kept.
    """

    def __init__(self, directory: Path | None = None, *, limit: int = LIMIT, fresh: bool = False) -> None:
        self.directory = directory or cache_directory() / "activations"
        self.limit = limit
        self.fresh = fresh
        self._writable = True

    def obtain(
        self,
        units: Mapping[int, Unit],
        capture: Callable[[Sequence[int]], dict[int, LayerActivations]],
        progress: Reporter,
    ) -> dict[int, LayerActivations]:
        """Return the activations of each layer: those that are kept, and the others as captured, which are kept then.

        Args:
            units: Layer -> what to read.
            capture: Captures some layers in one pass; not called where none is missing.
            progress: Where to say that nothing can be kept.
        """
        found = {layer: kept for layer, unit in units.items() if (kept := self.read(unit)) is not None}
        if missing := [layer for layer in units if layer not in found]:
            captured = capture(missing)
            self.write({units[layer]: captured[layer] for layer in missing}, progress)
            found |= captured
        return found

    def read(self, unit: Unit) -> LayerActivations | None:
        """Return what is kept, or None where there is no sound file."""
        path = self._path(unit)
        if self.fresh:
            return None
        try:
            if not path.is_file() or path.stat().st_size > self.limit:
                return None
            found = _unpack(path.read_bytes(), unit)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def write(self, entries: Mapping[Unit, LayerActivations], progress: Reporter) -> None:
        """Keep activations; where that fails, say so once, and keep none from then on."""
        if not self._writable:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for unit, activations in entries.items():
                if len(content := _pack(activations, unit)) <= self.limit:
                    replace_file(self._path(unit), content)
                self._make_room()
        except OSError as error:
            self._writable = False
            progress.note(f"activations are not kept: {self.directory} cannot be written: {error.strerror or error}")

    def _path(self, unit: Unit) -> Path:
        return self.directory / f"{unit.key}{_SUFFIX}"

    def _make_room(self) -> None:
        total, now = 0, time.time()
        for changed, size, path in sorted(self._files(), reverse=True):
            total += size
            is_unfinished = path.suffix == PART_SUFFIX
            is_idle = now - changed > _ABANDONED_SECONDS if is_unfinished else total > self.limit
            if is_idle:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, size and path of each file; one that another process removed meanwhile is left out."""
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                if path.suffix in {_SUFFIX, PART_SUFFIX}:
                    with contextlib.suppress(OSError):
                        status = path.stat()
                        yield status.st_mtime, status.st_size, path


def _pack(activations: LayerActivations, unit: Unit) -> bytes:
    arrays = {_RESIDUALS: activations.residuals.numpy()}
    for rule, matrix in activations.features.items():
        for part, values in zip(_PARTS, (matrix.data, matrix.indices, matrix.indptr), strict=True):
            arrays[f"{rule}.{part}"] = values
    arrays = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    content: bytes = save(arrays | {_DIGEST: _digest(arrays, unit)})
    return content


def _unpack(content: bytes, unit: Unit) -> LayerActivations:
    """Read what `_pack` made, and trust none of it: a wrong index would be followed out of an array.

    Raises:
        ValueError: It is of another unit, or damaged.
        KeyError: A tensor is missing.
        SafetensorError: It is no safetensors file.
    """
    arrays = load(content)
    if not np.array_equal(arrays.pop(_DIGEST), _digest(arrays, unit)):
        raise ValueError("the content is not what was written")
    residuals = arrays[_RESIDUALS]
    if residuals.shape != (unit.text_count, unit.d_model) or residuals.dtype != np.float32:
        raise ValueError(f"residual streams of shape {residuals.shape} and dtype {residuals.dtype}")
    if not np.isfinite(residuals).all():
        raise ValueError("a residual stream holds NaN or infinity")
    rules = TOKEN_RULES if unit.d_sae is not None else ()
    return LayerActivations(torch.tensor(residuals), {rule: _matrix(arrays, rule, unit) for rule in rules})


def _matrix(arrays: Mapping[str, np.ndarray], rule: TokenRule, unit: Unit) -> csr_array:
    parts = {part: arrays[f"{rule}.{part}"] for part in _PARTS}
    if not all(str(values.dtype) in _PARTS[part] for part, values in parts.items()):
        raise ValueError(f"features of dtypes {[str(values.dtype) for values in parts.values()]}")
    matrix = csr_array(tuple(parts.values()), shape=(unit.text_count, unit.d_sae))
    matrix.check_format(full_check=True)
    if not (matrix.has_canonical_format and np.isfinite(matrix.data).all()):
        raise ValueError("a feature is there twice, or is NaN or infinite")
    return matrix


def _digest(arrays: Mapping[str, np.ndarray], unit: Unit) -> np.ndarray:
    """SHA-256 of the unit's key, and of names, types, shapes and bytes: a file under another's name has another."""
    digest = hashlib.sha256(unit.key.encode())
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(json.dumps([name, str(values.dtype), values.shape]).encode())
        digest.update(values.tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)
