"""Small sparse autoencoders with seeded weights, written to disk by SAELens's own classes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from steering.sae.autoencoder import SparseAutoencoder, load_directory
from steering.sae.config_file import CONFIG_FILE, WEIGHTS_FILE

D_MODEL = 32  # that of the small models
D_SAE = 64
HOOK = "blocks.1.hook_resid_post"

#: What SAELens can load without training; "topk_rescaled" leaves the norms of the decoder's rows to the run time.
INFERENCE = ("standard", "topk", "topk_rescaled", "jumprelu", "gated")
#: What SAELens trains and then saves as another architecture, a JumpReLU one.
TRAINED = ("batchtopk", "matryoshka_batchtopk")
SAE_ARCHITECTURES = (*INFERENCE, *TRAINED)
_TOP_K = 8


def write_sae(
    directory: Path,
    architecture: str = "standard",
    *,
    d_model: int = D_MODEL,
    d_sae: int = D_SAE,
    hook_name: str = HOOK,
    seed: int = 0,
    weights: Mapping[str, torch.Tensor] | None = None,
    settings: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write an SAE as SAELens saves it; given tensors replace seeded ones, settings go into its config."""
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class, own = _classes(architecture, d_sae)
    about = SAEMetadata(hook_name=hook_name, **(metadata or {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on loading a model by TransformerLens
        sae = sae_class(config_class(d_in=d_model, d_sae=d_sae, metadata=about, **(own | dict(settings or {}))))
    state = sae.state_dict()
    for name, values in (seeded_weights(state, seed) | dict(weights or {})).items():
        state[name].copy_(values)
    (sae.save_inference_model if architecture in TRAINED else sae.save_model)(directory)
    return directory


def seeded_weights(shapes: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Weights with which about half of the features fire; biases and thresholds are far from 0."""
    generator = np.random.default_rng(seed)
    found: dict[str, torch.Tensor] = {}
    for name in sorted(shapes):
        values = generator.normal(size=tuple(shapes[name].shape))
        values = np.abs(values) * 0.3 if "threshold" in name else values * (0.3 if name == "r_mag" else 1.0)
        found[name] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return found


def load_small(directory: Path) -> SparseAutoencoder:
    """Load it on the CPU."""
    return load_directory(directory, torch.device("cpu"))


def small_sae(directory: Path, architecture: str = "standard", **options: Any) -> SparseAutoencoder:
    """Write and load."""
    return load_small(write_sae(directory, architecture, **options))


def write_old_sae(
    directory: Path,
    hook_point: str = "blocks.1.hook_resid_pre",
    *,
    d_sae: int = D_SAE,
    seed: int = 0,
    **changes: object,
) -> Path:
    """Write an SAE in the format before SAELens 6, with the keys of `gpt2-small-res-jb`."""
    config: dict[str, object] = {
        "model_name": "gpt2-small",
        "hook_point": hook_point,
        "hook_point_layer": int(hook_point.split(".")[1]),
        "hook_point_head_index": None,
        "dataset_path": "Skylion007/openwebtext",
        "is_dataset_tokenized": False,
        "context_size": 128,
        "d_in": D_MODEL,
        "d_sae": d_sae,
        "dtype": "torch.float32",
        "device": "cuda",
        "l1_coefficient": 8e-05,
    }
    shapes = {"W_enc": (D_MODEL, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, D_MODEL), "b_dec": (D_MODEL,)}
    directory.mkdir(parents=True)
    (directory / CONFIG_FILE).write_text(json.dumps(config | changes), encoding="utf-8")
    save_file(seeded_weights({name: torch.empty(shape) for name, shape in shapes.items()}, seed), weights_of(directory))
    return directory


def perfect_sae(directory: Path, hook_name: str = HOOK, *, d_model: int = D_MODEL, **options: Any) -> SparseAutoencoder:
    """An SAE that restores what it is given: relu(x) and relu(−x), decoded to their difference."""
    one, zero = torch.eye(d_model), torch.zeros
    weights = {
        "W_enc": torch.cat([one, -one], dim=1),
        "W_dec": torch.cat([one, -one]),
        "b_enc": zero(2 * d_model),
        "b_dec": zero(d_model),
    }
    return small_sae(directory, d_model=d_model, d_sae=2 * d_model, hook_name=hook_name, weights=weights, **options)


def weights_of(directory: Path) -> Path:
    """Path of an SAE's weights."""
    return directory / WEIGHTS_FILE


def numpy_weights(directory: Path) -> dict[str, np.ndarray]:
    """An SAE's weights as saved, in float64."""
    return {name: tensor.double().numpy() for name, tensor in load_file(weights_of(directory)).items()}


def change_weights(directory: Path, **tensors: torch.Tensor) -> None:
    """Replace some of an SAE's saved tensors."""
    save_file(load_file(weights_of(directory)) | tensors, weights_of(directory))


def change_config(directory: Path, **changes: object) -> None:
    """Replace some keys of an SAE's configuration."""
    path = directory / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | changes), encoding="utf-8")


def _classes(architecture: str, d_sae: int) -> tuple[Any, Any, dict[str, Any]]:
    """Class, configuration class and settings of an architecture."""
    import sae_lens

    return {
        "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
        "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": _TOP_K}),
        "topk_rescaled": (
            sae_lens.TopKSAE,
            sae_lens.TopKSAEConfig,
            {"k": _TOP_K, "rescale_acts_by_decoder_norm": True},
        ),
        "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
        "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
        "batchtopk": (sae_lens.BatchTopKTrainingSAE, sae_lens.BatchTopKTrainingSAEConfig, {"k": _TOP_K}),
        "matryoshka_batchtopk": (
            sae_lens.MatryoshkaBatchTopKTrainingSAE,
            sae_lens.MatryoshkaBatchTopKTrainingSAEConfig,
            {"k": _TOP_K, "matryoshka_widths": [d_sae // 2, d_sae]},
        ),
    }[architecture]
