"""Loading a causal language model: which one, on which device, in which dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steering.errors import DataError, ModelError, first_line
from steering.models import embedded
from steering.models.families import family
from steering.models.pretrained import read_gguf, read_layer_count, read_pretrained
from steering.paths import is_path

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device, or the best one that this machine has: CUDA, then MPS, then the CPU.

    Raises:
        ModelError: The named device does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ModelError(f"device {name!r} cannot be used here: {first_line(error)}") from None
    if device.type == "meta":
        raise ModelError(f"device {name!r} cannot be used here: it computes nothing")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the named dtype, or of "auto" bfloat16 where the device computes in it, float32 elsewhere.

    Raises:
        DataError: There is no such dtype.
    """
    if name not in get_args(DtypeName):
        raise DataError(f"dtype {name!r}: choose one of {', '.join(get_args(DtypeName))}")
    if name != "auto":
        return _DTYPES[name]
    return torch.bfloat16 if _computes_bfloat16(device) else torch.float32


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def load_model(
    reference: str, device: torch.device, dtype: torch.dtype
) -> tuple[str, PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a decoder-only model and its tokenizer.

    Args:
        reference: "embedded", a local directory, a GGUF file, or a hub id.
        device: Where to put it.
        dtype: Of its weights.

    Returns:
        A name for results, the model in evaluation mode, and the tokenizer.

    Raises:
        ModelError: It does not exist, cannot be read, holds no safetensors weights, or is of an unknown family.
        FetchError: The embedded model cannot be fetched.
    """
    if reference == embedded.NAME:
        name, source = embedded.TITLE, str(embedded.ensure_embedded_model())
    else:
        _require_there(reference)
        name, source = _name(reference), reference
    if source.endswith(".gguf"):
        model, tokenizer = read_gguf(Path(source), dtype)
    else:
        model, tokenizer = read_pretrained(source, dtype)
    family(model.config.model_type)
    if not tokenizer.is_fast:
        raise ModelError(f"model {reference!r}: its tokenizer gives no character offsets; a fast tokenizer is required")
    # Of the device alone: a dtype would round what the model computes rotary positions with, too.
    torch.nn.Module.to(model, device=device)
    return name, model.eval(), tokenizer


def layer_count(reference: str) -> int:
    """Number of blocks of a model, without loading it.

    Raises:
        ModelError: Its configuration cannot be read.
    """
    if reference == embedded.NAME:
        return embedded.LAYER_COUNT
    _require_there(reference)
    return read_layer_count(reference)


def _require_there(reference: str) -> None:
    """Refuse what can only be a path, and leads nowhere; the hub would be asked for it in vain."""
    named = reference.startswith((".", "/", "~")) or reference.endswith("/")
    if named and not is_path(reference):
        raise ModelError(f"model {reference!r}: no such file or directory")


def _name(reference: str) -> str:
    return Path(reference).resolve().name if is_path(reference) else reference
