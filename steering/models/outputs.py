"""Outputs of blocks: what was captured of some texts, and what the blocks above can go on from."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class CapturedBatch:
    """Residual streams of some texts.

    Attributes:
        rows: Indices of the texts in the call that captured them.
        lengths: Tokens of each text; positions beyond are padding.
        residuals: Layer -> `[row, pos, d_model]` in the model's dtype.
    """

    rows: tuple[int, ...]
    lengths: tuple[int, ...]
    residuals: dict[int, torch.Tensor]


@dataclass(frozen=True, eq=False)
class StoredOutput:
    """Output of a block for a batch, from which the blocks above it can go on.

    Attributes:
        layer: The block.
        residual: `[row, pos, d_model]`, of packed texts `[1, token, d_model]`.
    """

    layer: int
    residual: torch.Tensor
