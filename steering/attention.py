"""Attention of a single query on a CPU, as two batched matrix products.

PyTorch's fused kernel is made for long queries: in a decoding step, which has one query for each row, it takes fifteen
times as long as the products that it stands for.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "single_query"


def use_single_query_attention(module: PreTrainedModel) -> None:
    """Let a model that computes attention by PyTorch's fused kernel on a CPU decode by `attend`."""
    if module.device.type == "cpu" and module.config._attn_implementation == "sdpa":  # noqa: SLF001 - its only name
        AttentionInterface.register(_NAME, attend)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        module.set_attn_implementation(_NAME)


def attend(  # noqa: PLR0917 - transformers gives these by position
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention, as transformers calls it; with several queries, by PyTorch's kernel.

    Args:
        module: The attention module.
        query: `[row, head, query, width]`.
        key: `[row, key_value_head, pos, width]`; each serves a group of neighbouring heads.
        value: The same.
        attention_mask: `[row, 1, query, pos]`, true where a position is seen, or numbers to add; None sees all.
        scaling: Of the products; by default 1 / √width.
        **others: What transformers adds.

    Returns:
        `[row, query, head, width]`, and no weights.
    """
    if query.shape[2] > 1 or others.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows * key.shape[1], -1, width)
    keys = key.flatten(0, 1).transpose(1, 2)
    scores = torch.baddbmm(query.new_empty(1, 1, 1), grouped, keys, beta=0, alpha=scaling or width**-0.5)
    if attention_mask is not None:
        mask = attention_mask.expand(rows, key.shape[1], 1, -1).flatten(0, 1)
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.bmm(weights, value.flatten(0, 1)).reshape(rows, 1, heads, -1), None
