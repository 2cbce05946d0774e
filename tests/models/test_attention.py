"""Attention over short texts, against sums in numpy and against transformers' own function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from steering.models import attention
from steering.models.attention import attend
from steering.models.language_model import LanguageModel
from steering.models.sampling import Greedy
from tests.small_models import CONFIGS, small_model, small_module, small_tokenizer

ROWS, POSITIONS, WIDTH = 3, 11, 8
MASKS = ("none", "boolean", "additive")
HEADS = [(4, 4), (4, 2), (6, 1)]  # heads, and heads of keys and values


def attention_module(heads: int, key_value_heads: int) -> torch.nn.Module:
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = heads // key_value_heads, True
    return module.eval()


def tensors(heads: int, key_value_heads: int, queries: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(heads + key_value_heads)
    shapes = ((heads, queries), (key_value_heads, POSITIONS), (key_value_heads, POSITIONS))
    query, key, value = (torch.randn(ROWS, *shape, WIDTH, generator=generator) for shape in shapes)
    return query, key, value


def mask_of(kind: str, queries: int = 1) -> torch.Tensor | None:
    """Rows see the last positions, as after padding on the left: 11, 7 and one of them."""
    seen = torch.arange(POSITIONS) >= torch.tensor([0, 4, POSITIONS - 1]).unsqueeze(1)
    seen = seen[:, None, None].expand(ROWS, 1, queries, POSITIONS)
    if kind == "additive":
        return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return seen if kind == "boolean" else None


def computed(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> np.ndarray:
    """`[row, query, head, width]` in float64, head by head."""
    query, key, value = (tensor.double().numpy() for tensor in (query, key, value))
    rows, heads, queries, width = query.shape
    result = np.empty((rows, queries, heads, width))
    for row, head, number in np.ndindex(rows, heads, queries):
        shared = head // (heads // key.shape[1])
        scores = key[row, shared] @ query[row, head, number] * scaling
        if mask is not None:
            given = mask[row, 0, number].numpy()
            scores = np.where(given, scores, -np.inf) if given.dtype == bool else scores + given.astype(np.float64)
        weights = np.exp(scores - scores.max())
        result[row, number, head] = weights @ value[row, shared] / weights.sum()
    return result


@pytest.mark.parametrize("scaling", [None, 0.9])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize(("heads", "key_value_heads"), HEADS)
def test_attention_equals_the_sums_and_the_library_s(heads, key_value_heads, queries, kind, scaling):
    module, mask = attention_module(heads, key_value_heads), mask_of(kind, queries)
    query, key, value = tensors(heads, key_value_heads, queries)
    found, weights = attend(module, query, key, value, mask, scaling=scaling, dropout=0.0)
    assert weights is None
    if mask is None:  # what comes after a query is not seen
        mask = torch.ones(ROWS, 1, queries, POSITIONS, dtype=torch.bool).tril(POSITIONS - queries)
    expected = computed(query, key, value, mask, WIDTH**-0.5 if scaling is None else scaling)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    own, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=scaling)
    torch.testing.assert_close(found, own)


def test_attention_without_a_mask_is_causal_over_a_whole_text():
    module = attention_module(4, 2)
    query, key, value = tensors(4, 2, queries=POSITIONS)
    found, _ = attend(module, query, key, value, None)
    own, _ = sdpa_attention_forward(module, query, key, value, None, is_causal=True)
    torch.testing.assert_close(found, own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("product", [-1000.0, 0.0, 1000.0])
def test_padding_that_sees_nothing_stays_finite(dtype, product):
    query, key, value = (tensor.to(dtype) for tensor in tensors(4, 2, queries=3))
    query, key = torch.ones_like(query), torch.full_like(key, product / WIDTH**0.5)
    unseen = torch.zeros(ROWS, 1, 3, POSITIONS, dtype=torch.bool)
    assert torch.isfinite(attend(attention_module(4, 2), query, key, value, unseen)[0]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("queries", [1, 3])
def test_attention_in_half_precision_keeps_the_dtype(queries, kind, dtype):
    query, key, value = (tensor.to(dtype) for tensor in tensors(4, 2, queries))
    mask = mask_of(kind, queries)
    if kind == "additive":
        mask = mask.clamp(min=torch.finfo(dtype).min).to(dtype)
    found, _ = attend(attention_module(4, 2), query, key, value, mask)
    assert found.dtype == dtype
    if mask is None:
        mask = torch.ones(ROWS, 1, queries, POSITIONS, dtype=torch.bool).tril(POSITIONS - queries)
    mask = mask if mask.dtype == torch.bool else mask.float()
    expected = computed(*(tensor.float() for tensor in (query, key, value)), mask, WIDTH**-0.5)
    np.testing.assert_allclose(found.float().numpy(), expected, atol=0.03)


@pytest.mark.parametrize("kind", MASKS)
def test_attention_over_a_long_text_is_the_library_s(kind, monkeypatch):
    monkeypatch.setattr(attention, "_MOST_SCORES", 3 * POSITIONS - 1)
    module, mask = attention_module(4, 2), mask_of(kind, queries=3)
    query, key, value = tensors(4, 2, queries=3)
    found, _ = attend(module, query, key, value, mask)
    own, _ = sdpa_attention_forward(module, query, key, value, mask)
    assert torch.equal(found, own)


def test_attention_with_a_position_bias_is_the_library_s():
    module, bias = attention_module(4, 4), torch.arange(POSITIONS, dtype=torch.float32).expand(1, 4, 1, POSITIONS)
    query, key, value = tensors(4, 4)
    found, _ = attend(module, query, key, value, None, position_bias=bias)
    own, _ = sdpa_attention_forward(module, query, key, value, None, position_bias=bias)
    assert torch.equal(found, own)
    assert not torch.allclose(found, attend(module, query, key, value, None)[0])


@pytest.mark.parametrize("architecture", CONFIGS)
def test_model_on_the_cpu_attends_by_matrix_products(architecture, monkeypatch):
    model, steps = small_model(architecture), []

    def counted(module, query, *rest, **others):
        steps.append(query.shape[2])
        return attend(module, query, *rest, **others)

    monkeypatch.setitem(AttentionInterface._global_mapping, model.module.config._attn_implementation, counted)
    [completion] = model.generate([[5, 6, 7]], [None], Greedy(), 4)
    assert len(completion) == 4, "otherwise fewer steps would be right"
    assert steps == [3] * model.layer_count + [1] * model.layer_count * 3


# Transformers refuses the cap on Gemma 2's scores in its other implementation.
@pytest.mark.parametrize(
    ("architecture", "implementation"),
    [(name, kind) for name in CONFIGS for kind in ("eager", "sdpa") if (name, kind) != ("gemma2", "sdpa")],
)
def test_model_computes_what_transformers_own_attention_does(architecture, implementation):
    ids = torch.randint(1, 250, (3, 40), generator=torch.Generator().manual_seed(0))
    module = small_module(architecture)
    module.set_attn_implementation(implementation)
    with torch.inference_mode():
        expected = module(ids, use_cache=False).logits
        found = LanguageModel(module, small_tokenizer(), "small").module(ids, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("positions", ["few", "many"])
def test_attention_caps_its_scores(kind, positions, monkeypatch):
    if positions == "many":
        monkeypatch.setattr(attention, "_MOST_SCORES", 1)
    module, mask, cap = attention_module(4, 2), mask_of(kind, queries=POSITIONS), 0.3
    query, key, value = tensors(4, 2, queries=POSITIONS)
    found, _ = attend(module, query, key, value, mask, softcap=cap)
    capped, _ = eager_attention_forward(
        module, query, key, value, added(mask), scaling=WIDTH**-0.5, dropout=0.0, softcap=cap
    )
    torch.testing.assert_close(found, capped)
    assert not torch.allclose(found, attend(module, query, key, value, mask)[0], atol=0.01)


def added(mask: torch.Tensor | None) -> torch.Tensor:
    """The mask as numbers."""
    if mask is None:
        mask = torch.ones(1, 1, POSITIONS, POSITIONS, dtype=torch.bool).tril()
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
