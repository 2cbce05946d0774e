"""Loading a causal language model from a hub id, a local directory or a GGUF file, never from a pickle."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from steering import embedded
from steering.errors import ModelError
from steering.families import block_list

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
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def choose_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """Return the named dtype, or bfloat16 where the device computes in it, float32 elsewhere."""
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
        name, source = _name(reference), reference
    if source.endswith(".gguf"):
        model, tokenizer = load_gguf(Path(source))
    else:
        model, tokenizer = _load_pretrained(source, dtype)
    block_list(model.config.model_type)
    if not tokenizer.is_fast:
        raise ModelError(f"model {reference!r}: its tokenizer gives no character offsets; a fast tokenizer is required")
    torch.nn.Module.to(model, device=device, dtype=dtype)
    return name, model.eval(), tokenizer


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a GGUF file, dequantised to float32.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"model {str(path)!r}: no such file")
    with _quiet(), _explained(str(path)):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return model, tokenizer


def layer_count(reference: str) -> int:
    """Number of blocks of a model, read from its configuration alone.

    Raises:
        ModelError: The configuration cannot be read.
    """
    if reference == embedded.NAME:
        return embedded.LAYER_COUNT
    with _quiet(), _explained(reference):
        if reference.endswith(".gguf"):
            path = Path(reference)
            return int(AutoConfig.from_pretrained(path.parent, gguf_file=path.name).num_hidden_layers)
        return int(AutoConfig.from_pretrained(reference).num_hidden_layers)


def _load_pretrained(source: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    directory = Path(source)
    if directory.is_dir() and not any(directory.glob("*.safetensors")):
        raise ModelError(f"model {source!r}: no *.safetensors file; weights are read from safetensors or GGUF only")
    with _quiet(), _explained(source):
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True)
    return model, tokenizer


def _name(reference: str) -> str:
    path = Path(reference)
    return path.resolve().name if path.exists() else reference


@contextlib.contextmanager
def _explained(reference: str) -> Iterator[None]:
    """Turn whatever a loader raises into one message: their errors have no common root below `Exception`."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model {reference!r} cannot be loaded: {reason} "
            "Give 'embedded', a directory with config.json, tokenizer and *.safetensors, a GGUF file, "
            "or a hub id that this machine can reach."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loaders' own bars and notices away: they say nothing that a user of this project can act on."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
