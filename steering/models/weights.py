"""What tells the weights of one model, or of one sparse autoencoder, from those of another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def weights_hash(tensors: Iterable[tuple[str, torch.Tensor]], *, beginning: str = "") -> str:
    """SHA-256 of a text and of tensors, with their names, in their order."""
    digest = hashlib.sha256(beginning.encode())
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
