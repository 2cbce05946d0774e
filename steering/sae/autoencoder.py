"""Sparse autoencoders (SAEs) of the residual stream: load, check, encode, decode. The only import of sae_lens.

That import takes seconds, so it stands in the functions that need it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from steering.errors import DataError, SaeError, first_line, one_line
from steering.models.identity import weights_hash
from steering.sae.config_file import CONFIG_FILE, WEIGHTS_FILE, asks_for_centring, check_weights, read_config
from steering.sae.hooks import layer_of_hook, same_model
from steering.sae.recipe import TrainerSettings


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """An SAE of the output of one block, computing in float32.

    Attributes:
        name: How messages and results call it.
        layer: Block whose output it reads, from 0; converted from `hook_name`.
        hook_name: SAELens's name of the same place.
        centred: Whether it was trained on residual streams without their mean over d_model, as TransformerLens leaves
            them with centred writing weights. It is then given them so.
    """

    name: str
    layer: int
    hook_name: str
    centred: bool
    _lens: Any

    @property
    def d_model(self) -> int:
        """Width of the residual stream that it reads."""
        return int(self._lens.cfg.d_in)

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return int(self._lens.cfg.d_sae)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self._lens.W_dec.device)

    @cached_property
    def decoder(self) -> torch.Tensor:
        """What one unit of each feature adds to the residual stream, `[d_sae, d_model]`, float32.

        An SAE that normalises each activation at run time has no such fixed unit: its rows are in units of the
        normalised stream.
        """
        rows: torch.Tensor = self._lens.W_dec.detach().float()
        if getattr(self._lens.cfg, "rescale_acts_by_decoder_norm", False):
            rows = torch.nn.functional.normalize(rows, dim=1)
        return rows

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights as loaded, with their names."""
        return weights_hash(sorted(self._lens.state_dict().items()), beginning=self.hook_name)

    @property
    def settings(self) -> dict[str, Any]:
        """What it computes with besides its weights, such as the k of a TopK SAE."""
        return {**self._lens.cfg.to_dict(), "metadata": None, "centred": self.centred}

    @torch.inference_mode()
    def encode(self, residuals: torch.Tensor) -> torch.Tensor:
        """Feature activations `[..., d_sae]`, float32, of residual streams `[..., d_model]`."""
        codes: torch.Tensor = self._lens.encode(self.seen(residuals))
        return codes

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor, residuals: torch.Tensor) -> torch.Tensor:
        """Restore residual streams from their feature activations, in the residual streams' dtype, on their device."""
        restored: torch.Tensor = self._lens.decode(codes)
        if self.centred:
            restored = restored + residuals.to(self.device).float().mean(dim=-1, keepdim=True)
        return restored.to(residuals.device, residuals.dtype)

    def reconstruct(self, residuals: torch.Tensor) -> torch.Tensor:
        """Encode and decode residual streams `[..., d_model]`."""
        return self.decode(self.encode(residuals), residuals)

    def decode_difference(self, difference: torch.Tensor) -> torch.Tensor:
        """Decode a difference of feature activations `[d_sae]` to `[d_model]`: difference @ W_dec.

        The decoder's bias belongs to no difference and is not added.
        """
        return difference.to(self.device).float() @ self.decoder

    def seen(self, residuals: torch.Tensor) -> torch.Tensor:
        """Residual streams as the SAE is given them: float32, on its device, centred where it asks for that."""
        given = residuals.to(self.device).float()
        return given - given.mean(dim=-1, keepdim=True) if self.centred else given

    def other_model(self, name: str) -> str:
        """The model that its configuration names, where that is not the one of a name; else an empty string."""
        own = str(getattr(self._lens.cfg.metadata, "model_name", None) or "")
        return "" if not name or same_model(own, name) else own

    def check_fits(self, model: str, d_model: int, layer_count: int) -> None:
        """Refuse a model of another width or with fewer blocks.

        Raises:
            SaeError: The message names both sides.
        """
        if self.d_model != d_model:
            raise SaeError(f"SAE {self.name} reads a width of {self.d_model}, but model {model} has d_model {d_model}")
        if self.layer >= layer_count:
            raise SaeError(
                f"SAE {self.name} reads {self.hook_name}, the output of block {self.layer}, but model {model} has the "
                f"blocks 0 to {layer_count - 1}"
            )


def read_hook_name(directory: Path) -> str:
    """The hook name in the configuration of an SAE's directory.

    Raises:
        SaeError: The configuration is missing, damaged, or names no hook.
    """
    config = read_config(directory)
    metadata = config.get("metadata")
    nested = metadata.get("hook_name") if isinstance(metadata, dict) else None
    hook_name = nested or config.get("hook_name") or config.get("hook_point")
    if not isinstance(hook_name, str):
        raise SaeError(f"{directory / CONFIG_FILE}: names no hook (metadata.hook_name)")
    return hook_name


def load_directory(directory: Path, device: torch.device) -> SparseAutoencoder:
    """Load an SAE from a directory in SAELens's format: cfg.json and sae_weights.safetensors.

    Raises:
        SaeError: A file is missing or damaged, its numbers disagree, or it is no SAE of a block's output.
    """
    with _quiet():
        from sae_lens import SAE

    hook_name = read_hook_name(directory)
    check_weights(directory / WEIGHTS_FILE)
    try:
        with _quiet():
            lens = SAE.load_from_disk(directory, device=str(device), dtype="float32")
    except Exception as error:
        raise SaeError(f"{directory}: not an SAE that SAELens can load: {one_line(error)}") from error
    name = f"{directory.resolve().parent.name}/{directory.resolve().name}"
    return _checked(lens, name, hook_name, asks_for_centring(read_config(directory)))


def load_release(release: str, sae_id: str, device: torch.device) -> SparseAutoencoder:
    """Load an SAE by SAELens release and id from the model hub.

    Raises:
        SaeError: There is no such id, the format is another than SAELens's own, or the hub cannot be reached.
    """
    with _quiet():
        from sae_lens import SAE
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    entry = get_pretrained_saes_directory()[release]
    if entry.conversion_func is not None:  # many of the other formats are pickles, which can run code
        raise SaeError(
            f"SAE release {release!r}: its weights are not in SAELens's own format. Load the SAE with SAELens, save it "
            "(`sae.save_model`), and give the directory"
        )
    try:
        with _quiet():
            lens, config, _ = SAE.from_pretrained_with_cfg_and_sparsity(release, sae_id, device=str(device))
    except Exception as error:
        raise SaeError(
            f"SAE {release}/{sae_id} cannot be loaded: {one_line(error)} Give a directory with {CONFIG_FILE} and "
            f"{WEIGHTS_FILE} where the model hub cannot be reached"
        ) from error
    centred = asks_for_centring(config) or asks_for_centring(dict(entry.config_overrides or {}))
    return _checked(lens, f"{release}/{sae_id}", str(lens.cfg.metadata.hook_name or sae_id), centred)


def release_ids(release: str) -> list[str] | None:
    """Ids of the SAEs in a SAELens release, or None where there is no such release."""
    with _quiet():
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    entry = get_pretrained_saes_directory().get(release)
    return None if entry is None else list(entry.saes_map)


def new_trainer(settings: TrainerSettings, checkpoint: Path, device: torch.device) -> Any:
    """SAELens's trainer of a TopK SAE, where a checkpoint left it or at its first step.

    Args:
        settings: What it computes with.
        checkpoint: Directory that `trainer.save_checkpoint` wrote, or one that does not exist.
        device: Where to train.

    Raises:
        DataError: The checkpoint is damaged.
    """
    with _quiet():
        from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.saes.sae import SAEMetadata

    torch.manual_seed(settings.seed)
    config = TopKTrainingSAEConfig(
        **{key: getattr(settings, key) for key in ("d_in", "d_sae", "k")},
        normalize_activations="expected_average_only_in",
        device=str(device),
        metadata=SAEMetadata(**settings.metadata),
    )
    trainer_config = SAETrainerConfig(
        total_training_samples=settings.steps * settings.batch_size,
        train_batch_size_samples=settings.batch_size,
        lr=settings.learning_rate,
        lr_end=settings.learning_rate,  # a constant rate does not use it, but the trainer insists on one
        lr_warm_up_steps=min(100, settings.steps // 10),
        lr_decay_steps=settings.steps // 3,
        dead_feature_window=settings.dead_after_steps,
        autocast=settings.autocast,
        device=str(device),
    )
    trainer = SAETrainer(trainer_config, TopKTrainingSAE(config), iter(()))
    if checkpoint.is_dir():
        try:
            trainer.sae.load_weights_from_checkpoint(checkpoint)
            trainer.load_trainer_state(checkpoint)
        except Exception as error:  # what the libraries raise has no common root below it
            raise damaged_checkpoint(checkpoint, first_line(error)) from error
    return trainer


def damaged_checkpoint(directory: Path, reason: str) -> DataError:
    """What to say of one."""
    return DataError(f"{directory}: a damaged checkpoint: {reason}. Remove it; its layer is then trained anew")


def _checked(lens: Any, name: str, hook_name: str, centred: bool) -> SparseAutoencoder:
    decoder = getattr(lens, "W_dec", None)
    if decoder is None or decoder.ndim != 2 or lens.cfg.metadata.hook_name_out not in (None, hook_name):
        raise SaeError(f"SAE {name}: architecture {lens.cfg.architecture()!r} does not decode to what it reads")
    if (shape := tuple(decoder.shape)) != (wanted := (lens.cfg.d_sae, lens.cfg.d_in)):
        raise SaeError(f"SAE {name}: its decoder has shape {shape}, but {CONFIG_FILE} says [d_sae, d_in] = {wanted}")
    for key, tensor in lens.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise SaeError(f"SAE {name}: {key} holds NaN or infinity")
    if (scaling := lens.cfg.normalize_activations) in ("expected_average_only_in", "covariance_whitening"):
        raise SaeError(
            f"SAE {name}: its scaling is not folded into its weights, as in a checkpoint, and SAELens leaves it out; "
            f"normalize_activations is {scaling!r}, and 'none' where it is folded"
        )
    try:
        with torch.no_grad():
            lens.eval().decode(lens.encode(torch.zeros(2, lens.cfg.d_in, dtype=lens.dtype, device=lens.device)))
    except (RuntimeError, TypeError, ValueError) as error:
        raise SaeError(
            f"SAE {name}: it cannot compute with the settings of its {CONFIG_FILE}: {first_line(error)}"
        ) from None
    return SparseAutoencoder(name, layer_of_hook(hook_name), hook_name, centred, lens)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what SAELens and its own imports warn of: deprecations, and advice on models that are not used here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
