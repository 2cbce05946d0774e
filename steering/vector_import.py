"""Directions that other programs wrote."""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from safetensors import SafetensorError, safe_open

from steering.errors import VectorError, one_line
from steering.gguf_header import check_header
from steering.paths import is_file
from steering.vector_export import MODEL_HINT
from steering.vectors import MAX_BYTES, is_steering_vector

# A control vector announces some hundred things: what it is, and a tensor for each layer.
_MOST_ANNOUNCED = 10_000
_NUMBERS = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
# What gguf's reader raises of a damaged file, which it looks up by counts that the file holds.
_DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError)


def read_direction(path: Path | str, layer: int, tensor: str = "") -> torch.Tensor:
    """Read the direction of one layer, `[d_model]`, float32.

    A safetensors file holds it as its only tensor, or as one that is named. A control vector of llama.cpp and repeng
    (GGUF) holds it as `direction.N`, which is added to the output of block N. No other format is read: PyTorch's .pt is
    a pickle, which can run code.

    Args:
        path: The file; nothing in it is trusted.
        layer: Block whose output it is for, from 0.
        tensor: Name of the tensor in a safetensors file that holds several.

    Raises:
        VectorError: The file is missing, damaged, too large, of another format, holds no such direction, or is what
            `SteeringVector.save` wrote: layer and dose of such a file are not to be given anew.
    """
    path = Path(path)
    if not is_file(path):
        raise VectorError(f"{path}: no such file")
    if path.suffix not in (".safetensors", ".gguf"):
        raise VectorError(
            f"{path}: a .safetensors or .gguf file is required; PyTorch's .pt is a pickle, which can run code, and is "
            "not read: convert it by safetensors.torch.save_file({'direction': torch.load(FILE, weights_only=True)}, "
            "'direction.safetensors'), where you trust it"
        )
    if (size := path.stat().st_size) > MAX_BYTES:
        raise VectorError(f"{path}: {size} bytes; at most {MAX_BYTES} are read")
    found = _of_control_vector(path, layer) if path.suffix == ".gguf" else _of_safetensors(path, tensor)
    if found.ndim != 1 or not found.is_floating_point():
        raise VectorError(f"{path}: one direction [d_model] is required, found {found.dtype} {tuple(found.shape)}")
    return found.float()


def is_vector_file(path: Path) -> bool:
    """Whether a file is a steering vector of this project or a control vector; of other formats that cannot be told."""
    try:
        if path.suffix == ".gguf":
            check_header(path, _MOST_ANNOUNCED)
            field = gguf.GGUFReader(path).get_field("general.architecture")
            return field is not None and field.contents() == "controlvector"
        with safe_open(str(path), framework="pt") as file:
            return is_steering_vector(file.metadata())
    except (*_DAMAGE, SafetensorError):
        return False


def read_model_type(path: Path) -> str:
    """The type of the model that a control vector is for, as it says; empty where it does not, or is another file.

    Args:
        path: A file that `read_direction` has read.
    """
    if path.suffix != ".gguf":
        return ""
    try:
        field = gguf.GGUFReader(path).get_field(MODEL_HINT)
        found = "" if field is None else field.contents()
    except _DAMAGE as error:
        raise VectorError(f"{path}: cannot be read as a control vector: {one_line(error)}") from None
    return found if isinstance(found, str) else ""


def _of_safetensors(path: Path, tensor: str) -> torch.Tensor:
    try:
        with safe_open(str(path), framework="pt") as file:
            if is_steering_vector(file.metadata()):
                raise VectorError(f"{path}: a steering vector file already; use it as it is")
            names = sorted(file.keys())
            if not tensor and len(names) == 1:
                [tensor] = names
            if tensor in names:
                found: torch.Tensor = file.get_tensor(tensor)
                return found
    except (OSError, SafetensorError) as error:
        raise VectorError(f"{path}: not a safetensors file: {one_line(error)}") from None
    wanted = f"no tensor {tensor!r}" if tensor else "several tensors; name one with --tensor"
    raise VectorError(f"{path}: {wanted}. It holds: {', '.join(names) or 'none'}")


def _of_control_vector(path: Path, layer: int) -> torch.Tensor:
    name = f"direction.{layer}"
    try:
        check_header(path, _MOST_ANNOUNCED)
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        if name in tensors and tensors[name].tensor_type in _NUMBERS:
            return torch.from_numpy(tensors[name].data.copy())
    except _DAMAGE as error:
        raise VectorError(f"{path}: cannot be read as a control vector: {one_line(error)}") from None
    if name in tensors:
        raise VectorError(f"{path}: {name} is {tensors[name].tensor_type.name}; F32 or F16 is required")
    raise VectorError(f"{path}: no tensor {name!r}. It holds: {', '.join(tensors) or 'none'}")
