"""Activations on disk: what a sparse autoencoder is trained on, read from the model once for all layers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from steering.errors import DataError, one_line
from steering.files import write_file
from steering.models.language_model import LanguageModel
from steering.progress import SILENT, Reporter

_TENSOR = "residuals"
_MANIFEST = "store.json"
_SHARD_TOKENS = 131_072
# Rows of several shards are mixed before they are cut into batches.
_SHARDS_AT_ONCE = 4
_OUTLIER_FACTOR = 5.0


@dataclass(frozen=True)
class ActivationStore:
    """A directory with one file for each layer and shard.

    Position 0 of each row, an attention sink, and outliers (norm over 5 × the shard's median) are left out: their norms
    would outweigh everything else.

    Attributes:
        directory: Where the files are.
    """

    directory: Path

    def fill(
        self,
        model: LanguageModel,
        rows: Sequence[Sequence[int]],
        layers: Sequence[int],
        identity: Mapping[str, Any],
        progress: Reporter = SILENT,
    ) -> None:
        """Capture rows at all layers, shard by shard; shards that are complete already are kept.

        Args:
            model: The model to read.
            rows: Token ids.
            layers: Blocks whose output to store.
            identity: What the activations depend on; a store that was begun with another is refused.
            progress: Where to report.

        Raises:
            DataError: The directory holds another store, or the disk has no room.
            ResultsError: The store's description cannot be written.
        """
        self._begin(identity)
        shards = list(_shards(rows))
        with progress.work("capturing activations", len(rows)) as advance:
            for number, shard in enumerate(shards):
                paths = {layer: self._path(layer, number) for layer in layers}
                if not all(path.is_file() for path in paths.values()):
                    self._check_room(len(layers), sum(map(len, shard)), model.d_model)
                    for layer, residuals in _captured(model, shard, layers):
                        _write(paths[layer], residuals)
                advance(len(shard))

    def _begin(self, identity: Mapping[str, Any]) -> None:
        path = self.directory / _MANIFEST
        wanted = json.dumps(identity, indent=1, sort_keys=True)
        if path.is_file():
            if (found := path.read_text(encoding="utf-8")) != wanted:
                differing = _differing(found, identity)
                raise DataError(
                    f"{self.directory}: its activations differ from those asked for in {', '.join(differing)}; give "
                    "another directory, or remove this one"
                )
            return
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        write_file(path, wanted.encode())

    def _check_room(self, layer_count: int, tokens: int, d_model: int) -> None:
        needed = 4 * layer_count * tokens * d_model
        if shutil.disk_usage(self.directory).free < needed:
            raise DataError(f"{self.directory}: no room for the next {needed / 1e9:.1f} GB of activations")

    def _path(self, layer: int, shard: int) -> Path:
        return self.directory / f"layer{layer}" / f"{shard:05d}.safetensors"

    def batches(self, layer: int, size: int, epochs: int, seed: int, skip: int = 0) -> Iterator[torch.Tensor]:
        """Yield batches `[size, d_model]`, float32, in an order that the seed decides.

        Each epoch visits the shards in a new order; some shards at a time are read and their rows mixed. A rest that
        fills no batch is dropped.

        Args:
            layer: Which layer.
            size: Rows of a batch.
            epochs: How often each row is seen.
            seed: Decides the order.
            skip: Batches to pass over at the beginning, to go on where a run was interrupted.
        """
        paths = sorted((self.directory / f"layer{layer}").glob("*.safetensors"))
        generator = np.random.default_rng([seed, layer])
        for _ in range(epochs):
            order = generator.permutation(len(paths))
            for start in range(0, len(order), _SHARDS_AT_ONCE):
                rows = torch.cat([_read(paths[index]) for index in order[start : start + _SHARDS_AT_ONCE]])
                mixed = torch.from_numpy(generator.permutation(len(rows)))
                for begin in range(0, len(rows) - size + 1, size):
                    if skip:
                        skip -= 1
                        continue
                    yield rows[mixed[begin : begin + size]].float()

    def token_count(self, layer: int) -> int:
        """Rows stored for a layer."""
        return sum(_length(path) for path in (self.directory / f"layer{layer}").glob("*.safetensors"))

    def batch_count(self, layer: int, size: int, epochs: int) -> int:
        """A number of batches that `batches` yields whatever order the seed gives."""
        paths = (self.directory / f"layer{layer}").glob("*.safetensors")
        return epochs * sum(_length(path) // size for path in paths)


def _differing(found: str, identity: Mapping[str, Any]) -> list[str]:
    """Names of what a store was filled from and is not what is asked for."""
    try:
        before = json.loads(found)
        return sorted(key for key, value in identity.items() if before.get(key) != value) or ["what they are of"]
    except (ValueError, AttributeError):
        return ["what they are of"]


def _shards(rows: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    shard: list[Sequence[int]] = []
    count = 0
    for row in rows:
        shard.append(row)
        count += len(row)
        if count >= _SHARD_TOKENS:
            yield shard
            shard, count = [], 0
    if shard:
        yield shard


def _captured(
    model: LanguageModel, rows: Sequence[Sequence[int]], layers: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (layer, `[row, d_model]`), and keep no layer's parts once they are joined: a shard takes gigabytes."""
    parts: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for batch in model.capture(rows, layers):
        for layer in layers:
            residual = batch.residuals[layer]
            parts[layer] += [residual[row, 1:length].cpu() for row, length in enumerate(batch.lengths)]
    for layer in layers:
        yield layer, without_outliers(torch.cat(parts.pop(layer)))


def without_outliers(residuals: torch.Tensor) -> torch.Tensor:
    """Rows of `[row, d_model]` whose norm is at most 5 × the median norm."""
    norms = residuals.float().norm(dim=1)
    return residuals[norms <= _OUTLIER_FACTOR * norms.median()]


def _write(path: Path, residuals: torch.Tensor) -> None:
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file({_TENSOR: residuals.contiguous()}, scratch)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name what could not be written: safetensors and torch tell of a full disk by errors of their own.

    Raises:
        DataError: Writing failed.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: writing failed: {error.strerror or error}") from error
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: writing failed: {one_line(error)}; is the disk full?") from error


def _length(path: Path) -> int:
    with _explained(path), safe_open(path, framework="pt") as file:
        return int(file.get_slice(_TENSOR).get_shape()[0])


def _read(path: Path) -> torch.Tensor:
    with _explained(path):
        return load_file(path)[_TENSOR]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path}: damaged activations: {error}; remove the file, and they are captured again") from None
