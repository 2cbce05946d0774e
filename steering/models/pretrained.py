"""Reading a model and its tokenizer with transformers: safetensors and GGUF only, one message for what goes wrong."""

from __future__ import annotations

import contextlib
import io
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub.constants
import torch
import transformers
from huggingface_hub.utils.tqdm import enable_progress_bars
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from steering.errors import ModelError, first_line
from steering.gguf_header import check_header
from steering.models.families import family
from steering.paths import is_directory, is_file, is_path

# Three times what the largest vocabularies take, with a score, a type and a merge for each token.
_MOST_ANNOUNCED = 1 << 22


def read_pretrained(source: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a directory, or a hub id, in Hugging Face's format.

    Raises:
        ModelError: It does not exist, cannot be read, or holds no safetensors weights.
    """
    if is_directory(source) and not any(Path(source).glob("*.safetensors")):
        raise ModelError(f"model {source!r}: no *.safetensors file; weights are read from safetensors or GGUF only")
    is_cached = _is_out_of_reach(source)
    with quiet(), _explained(source):
        tokenizer = _read_tokenizer(source, local_files_only=is_cached)
        model = _read_weights(source, dtype=dtype, use_safetensors=True, local_files_only=is_cached)
    return model, tokenizer


def read_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a GGUF file, dequantised.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    if not is_file(path):
        raise ModelError(f"model {str(path)!r}: no such file")
    with quiet(), _explained(str(path)):
        check_header(path, _MOST_ANNOUNCED)
        tokenizer = _read_tokenizer(path.parent, gguf_file=path.name)
        # The bar over its tensors is tqdm's own, which transformers' switch does not reach.
        with contextlib.redirect_stderr(io.StringIO()):
            model = _read_weights(path.parent, dtype=dtype, gguf_file=path.name)
    return model, tokenizer


def _read_tokenizer(source: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """Read a tokenizer; where there is none, transformers makes one that knows nothing."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:
        raise ModelError("there is no tokenizer beside it; put one there with tokenizer.save_pretrained")
    return tokenizer


def _read_weights(source: str | Path, **options: Any) -> PreTrainedModel:
    """Read a model all of whose weights are there: those that are not, transformers would draw at random."""
    model: PreTrainedModel
    read: Any = AutoModelForCausalLM.from_pretrained  # which transformers declares without the report
    model, report = read(source, trust_remote_code=False, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"its configuration wants weights that its files lack: {missing[0]}{others}")
    return model


def read_layer_count(source: str) -> int:
    """Number of blocks of a model, from its configuration alone.

    Raises:
        ModelError: The configuration cannot be read, or the model is of an unknown family.
    """
    with quiet(), _explained(source):
        if source.endswith(".gguf"):
            path = Path(source)
            check_header(path, _MOST_ANNOUNCED)
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        else:
            options = {"trust_remote_code": False, "local_files_only": _is_out_of_reach(source)}
            config = AutoConfig.from_pretrained(source, **options)
    family(config.model_type)
    return int(config.num_hidden_layers)


def _is_out_of_reach(source: str) -> bool:
    """Whether a hub id can be there in the hub's cache alone: to ask a hub without an address takes half a minute.

    A proxy may know an address that this machine does not.
    """
    if is_path(source) or getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, None)
    except OSError:
        return True
    return False


@contextlib.contextmanager
def _explained(reference: str) -> Iterator[None]:
    """Turn whatever a loader raises into one message: their errors have no common root below `Exception`."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"model {reference!r} cannot be loaded: {first_line(error).rstrip('.')}. "
            "Give 'embedded', a directory with config.json, tokenizer and *.safetensors, a GGUF file, "
            "or a hub id that this machine can reach."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the loaders' own bars and notices away: they say nothing that a user of this project can act on."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if sys.stderr.isatty():  # a download can take long
        enable_progress_bars()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
