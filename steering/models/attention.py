"""Attention over short texts on a CPU, as two batched matrix products.

PyTorch's fused kernel is made for long texts. In a decoding step, which has one query for each row, it takes up to
fifteen times as long as the products that it stands for; for texts of a hundred tokens, up to five times. A processor
with AMX is the exception: there the two take the same time for such texts.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "matrix_products"
# Of the scores of one head in one row. Beyond it, the fused kernel, which never holds them all, is faster.
_MOST_SCORES = 128 * 128


def use_matrix_products(module: PreTrainedModel) -> None:
    """Let a model that computes attention by PyTorch's fused kernel on a CPU compute it by `attend`."""
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
    """Scaled dot-product attention, as transformers calls it; of long texts by PyTorch's kernel.

    Args:
        module: The attention module.
        query: `[row, head, query, width]`.
        key: `[row, key_value_head, pos, width]`; each serves a group of neighbouring heads.
        value: The same.
        attention_mask: `[row, 1, query, pos]`, true where a position is seen, or numbers to add; None is causal.
        scaling: Of the products; by default 1 / √width.
        **others: What transformers adds.

    Returns:
        `[row, query, head, width]`, and no weights.
    """
    rows, heads, queries, width = query.shape
    positions = key.shape[2]
    if queries * positions > _MOST_SCORES or others.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    # Heads that share keys and values are further queries of one product.
    grouped = query.reshape(rows * key.shape[1], -1, width)
    scores = _added(attention_mask, query, positions).view(*grouped.shape[:2], positions)
    scores.baddbmm_(grouped, key.flatten(0, 1).transpose(1, 2), alpha=width**-0.5 if scaling is None else scaling)
    found = torch.bmm(scores.softmax(dim=-1), value.flatten(0, 1))
    return found.reshape(rows, heads, queries, -1).transpose(1, 2), None


def _added(mask: torch.Tensor | None, query: torch.Tensor, positions: int) -> torch.Tensor:
    """What a mask adds to the scores, in memory of its own: `[row, head, query, pos]`."""
    rows, heads, queries, _ = query.shape
    if mask is None:
        mask = torch.ones(queries, positions, dtype=torch.bool, device=query.device).tril(positions - queries)
    if mask.dtype == torch.bool:
        # Far from infinity: a padding position, which sees nothing, would become NaN.
        mask = query.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(query.dtype).min / 2)
    return mask.expand(rows, heads, queries, positions).to(
        query.dtype, copy=True, memory_format=torch.contiguous_format
    )
