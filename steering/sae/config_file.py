"""What an SAE's directory holds, and what its configuration says, before SAELens reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from steering.errors import SaeError

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"


def asks_for_centring(config: dict[str, Any]) -> bool:
    """Whether a configuration says that the SAE was trained on centred residual streams.

    SAEs that were trained before SAELens 6 may not say how the model was loaded. TransformerLens centred GPT-2 by
    default then. SAELens 6 writes its own version where it saves one again, and keeps that of the training, or null.
    """
    metadata = config["metadata"] if isinstance(config.get("metadata"), dict) else config
    loading = metadata.get("model_from_pretrained_kwargs") or config.get("model_from_pretrained_kwargs")
    if isinstance(loading, dict) and "center_writing_weights" in loading:
        return bool(loading["center_writing_weights"])
    version = metadata.get("sae_lens_training_version", metadata.get("sae_lens_version"))
    old = version is None or bool(re.match(r"[0-5]\.", str(version)))
    return old and str(metadata.get("model_name", "")).startswith("gpt2")


def read_config(directory: Path) -> dict[str, Any]:
    """Read the configuration of an SAE's directory.

    Raises:
        SaeError: There is none, or it is no JSON object.
    """
    path = directory / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SaeError(f"{path}: no such file; an SAE's directory holds {CONFIG_FILE} and {WEIGHTS_FILE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SaeError(f"{path}: not a configuration: {error}") from None
    if not isinstance(config, dict):
        raise SaeError(f"{path}: a JSON object is required, found {type(config).__name__}")
    return config


def check_weights(path: Path) -> None:
    """Refuse a file of weights that is missing or damaged.

    Raises:
        SaeError: The message says which.
    """
    if not path.is_file():
        raise SaeError(f"{path}: no such file; weights are read from safetensors only")
    try:
        with safe_open(path, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise SaeError(f"{path}: damaged safetensors file: {error}") from None
