"""Feature activations of many tokens, in parts: a wide SAE's take more memory than the model's own work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from steering.sae.autoencoder import SparseAutoencoder

# What the activations of one part may take; encoding holds a few tensors of that size.
_CODES_BYTES = 1 << 27


def tokens_of_part(sae: SparseAutoencoder) -> int:
    """How many tokens are encoded together."""
    return max(1, _CODES_BYTES // (torch.float32.itemsize * sae.d_sae))


def encode_texts(sae: SparseAutoencoder, texts: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Feature activations `[token, d_sae]` of each text, in their order, from residual streams `[token, d_model]`."""
    together = max(1, tokens_of_part(sae) // max([1, *map(len, texts)]))
    for first in range(0, len(texts), together):
        part = list(texts[first : first + together])
        yield from torch.split(sae.encode(torch.cat(part)), [len(text) for text in part])
