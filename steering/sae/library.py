"""Which sparse autoencoders there are for which layers: those that ship with the package, a directory, or a release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from steering.errors import SaeError, UnknownNameError
from steering.hashing import json_hash
from steering.models import embedded
from steering.paths import data_directory, is_directory, is_file
from steering.sae.autoencoder import SparseAutoencoder, load_directory, load_release, read_hook_name, release_ids
from steering.sae.config_file import CONFIG_FILE
from steering.sae.features import DESCRIPTIONS_FILE, Descriptions, load_descriptions
from steering.sae.hooks import layer_of_hook

EMBEDDED = "embedded"


@dataclass(frozen=True)
class SaeLibrary:
    """SAEs by layer, loaded when they are asked for.

    Attributes:
        name: How results call it.
        directories: Layer -> directory in SAELens's format.
        release: A SAELens release in place of directories; empty where there is none.
        ids: Layer -> id in the release.
        descriptions: A file that describes the features, in place of the one beside each SAE.
    """

    name: str
    directories: Mapping[int, Path]
    release: str = ""
    ids: Mapping[int, str] = field(default_factory=dict)
    descriptions: Path | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that have an SAE, lowest first."""
        return tuple(sorted(self.ids if self.release else self.directories))

    def load(self, layer: int, device: torch.device) -> SparseAutoencoder:
        """Load the SAE of a layer.

        Raises:
            SaeError: There is none for this layer, or it cannot be loaded.
        """
        self.require(layer)
        if self.release:
            sae = load_release(self.release, self.ids[layer], device)
        else:
            sae = load_directory(self.directories[layer], device)
        if sae.layer != layer:
            raise SaeError(
                f"SAE {sae.name} reads {sae.hook_name}, the output of block {sae.layer}; layer {layer} was asked for"
            )
        return sae

    def describe(self, sae: SparseAutoencoder) -> Descriptions:
        """Descriptions of an SAE's features; none where no file holds any.

        Raises:
            DataError: The file is malformed, or was given for several layers and does not say which a line is about.
            SaeError: It is about other features.
        """
        beside = None if self.release else self.directories[sae.layer] / DESCRIPTIONS_FILE
        path = self.descriptions or beside
        if path is None or (path == beside and not path.is_file()):
            return Descriptions(f"SAE {sae.name}, which has no {DESCRIPTIONS_FILE}")
        if path == beside:
            return load_descriptions(path, sae)
        given = load_descriptions(path, sae, of_several_layers=len(self.layers) > 1)
        return replace(given, hash=json_hash(sorted(given.texts.items())))

    def load_described(
        self, layers: Sequence[int], device: torch.device
    ) -> list[tuple[SparseAutoencoder, Descriptions]]:
        """Load the SAEs of some layers, each with its descriptions; errors as those of `load` and `describe`."""
        loaded = [self.load(layer, device) for layer in layers]
        return [(sae, self.describe(sae)) for sae in loaded]

    def require(self, layer: int) -> None:
        """Refuse a layer that has no SAE, without loading anything.

        Raises:
            SaeError: The message names the layers that have one.
        """
        if layer not in self.layers:
            raise SaeError(
                f"no SAE for layer {layer} in {self.name!r}; there are SAEs for the layers "
                f"{', '.join(map(str, self.layers))}"
            )


def layers_with_sae(library: SaeLibrary | None, layers: Sequence[int]) -> list[int]:
    """Those of some layers that have an SAE; none where there is no library."""
    return [] if library is None else [layer for layer in layers if layer in library.layers]


def open_library(reference: str, descriptions: str = "") -> SaeLibrary:
    """Find SAEs without loading them.

    Args:
        reference: "embedded"; a directory with `cfg.json` and `sae_weights.safetensors`, or one that holds such
            directories; or the name of a SAELens release.
        descriptions: A JSON Lines file that describes the features, instead of the one beside each SAE.

    Raises:
        UnknownNameError: There is no such directory or release.
        SaeError: A directory holds no SAE, or two for one layer.
    """
    file = Path(descriptions) if descriptions else None
    if file is not None and not is_file(file):
        raise SaeError(f"{file}: no such file of feature descriptions")
    if reference == EMBEDDED:
        return SaeLibrary(EMBEDDED, _directories(_embedded_root()), descriptions=file)
    if is_directory(reference):
        return SaeLibrary(Path(reference).resolve().name, _directories(Path(reference)), descriptions=file)
    if not reference.startswith((".", "/")) and (ids := release_ids(reference)) is not None:
        layers = {layer: sae_id for sae_id in ids if (layer := _layer_or_none(sae_id)) is not None}
        if not layers:
            raise SaeError(
                f"SAE release {reference!r}: its ids name no residual stream hook; load one with SAELens, save it "
                "(`sae.save_model`), and give the directory"
            )
        return SaeLibrary(reference, {}, reference, layers, file)
    raise UnknownNameError(
        "SAEs", reference, [EMBEDDED], f"Or give a directory with {CONFIG_FILE}, or a SAELens release."
    )


def _embedded_root() -> Path:
    return data_directory("saes") / embedded.TITLE


def _directories(root: Path) -> dict[int, Path]:
    if (root / CONFIG_FILE).is_file():
        return {layer_of_hook(read_hook_name(root)): root}
    found: dict[int, Path] = {}
    for directory in sorted(path.parent for path in root.glob(f"*/{CONFIG_FILE}")):
        layer = _layer_or_none(read_hook_name(directory))
        if layer is None:  # the embeddings' SAE of a whole release, for instance
            continue
        if layer in found:
            raise SaeError(f"{root}: two SAEs for layer {layer}: {found[layer].name} and {directory.name}")
        found[layer] = directory
    if not found:
        raise SaeError(
            f"{root}: no SAE of a block's output here; a directory with {CONFIG_FILE} and weights, or one that holds "
            "such directories, is required"
        )
    return found


def _layer_or_none(sae_id: str) -> int | None:
    try:
        return layer_of_hook(sae_id)
    except SaeError:
        return None
