"""Attention over packed texts, and over short texts as two batched matrix products.

PyTorch's fused kernel is made for long texts. On a CPU, in a decoding step, which has one query for each row, it takes
up to fifteen times as long as the products that it stands for; for texts of a hundred tokens, up to five times. A
processor with AMX is the exception: there the two take the same time for such texts.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from steering.models.packing import MOST_POSITIONS, PackedTexts

_NAME = "steering"
# Of one head in one row. Beyond it, the fused kernel, which never holds them all, is faster.
_MOST_SCORES = MOST_POSITIONS**2


def use_own_attention(module: PreTrainedModel) -> None:
    """Let a model compute attention by `attend`, whatever it would be computed by."""
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
    *,
    packed: PackedTexts | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention, as transformers calls it.

    Args:
        module: The attention module.
        query: `[row, head, query, width]`; of packed texts `[1, head, token, width]`.
        key: `[row, key_value_head, pos, width]`; each serves a group of neighbouring heads.
        value: The same.
        attention_mask: `[row, 1, query, pos]`, true where a position is seen, or numbers to add; None is causal. Of
            packed texts, it is of no account.
        scaling: Of the products; by default 1 / √width.
        packed: The texts, if they are packed.
        sliding_window: How many positions back a token sees, itself included. The mask knows, if there is one.
        **others: What transformers adds.

    Returns:
        `[row, query, head, width]`, and no weights.
    """
    if packed is None:
        return _attend(module, query, key, value, attention_mask, scaling, **others), None
    query, key, value = (packed.by_text(states) for states in (query, key, value))
    found = _attend(module, query, key, value, packed.seen(sliding_window), scaling, **others)
    return packed.by_token(found), None


def _attend(  # noqa: PLR0917 - as above
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None = None,
    **others: Any,
) -> torch.Tensor:
    rows, heads, queries, width = query.shape
    positions = key.shape[2]
    is_long = query.device.type != "cpu" or queries * positions > _MOST_SCORES
    if (is_long and softcap is None) or others.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **others)[0]
    # Heads that share keys and values are further queries of one product.
    grouped = query.reshape(rows * key.shape[1], -1, width)
    scaling = width**-0.5 if scaling is None else scaling
    scores = _added(mask, query, positions).view(*grouped.shape[:2], positions)
    if softcap is None:
        scores.baddbmm_(grouped, key.flatten(0, 1).transpose(1, 2), alpha=scaling)
    else:
        scores += (torch.bmm(grouped, key.flatten(0, 1).transpose(1, 2)) * (scaling / softcap)).tanh_() * softcap
    found = torch.bmm(scores.softmax(dim=-1), value.flatten(0, 1))
    return found.reshape(rows, heads, queries, -1).transpose(1, 2)


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
