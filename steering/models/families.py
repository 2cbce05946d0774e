"""Where a model family keeps its parts: the one record that a new family needs.

Its attention has to be one that transformers' `AttentionInterface` replaces, and to see all positions before, or a
window of them: `steering.models.attention` computes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steering.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Family:
    """Paths of modules inside a causal language model.

    Attributes:
        blocks: List of the blocks.
        final_norm: Normalisation between the last block and the unembedding.
    """

    blocks: str
    final_norm: str


_LLAMA_LIKE = Family("model.layers", "model.norm")

#: `model_type` of a Hugging Face config -> its family.
FAMILIES: dict[str, Family] = {
    "gemma": _LLAMA_LIKE,
    "gemma2": _LLAMA_LIKE,
    "gemma3_text": _LLAMA_LIKE,
    "gpt2": Family("transformer.h", "transformer.ln_f"),
    "gpt_neox": Family("gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "opt": Family("model.decoder.layers", "model.decoder.final_layer_norm"),
    "phi": Family("model.layers", "model.final_layernorm"),
    "phi3": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
}


def length_limit(config: PretrainedConfig) -> int | None:
    """Tokens of the longest text that a model is given; None where its configuration names no limit.

    By the rotary positions of "longrope" (Phi-3), a batch with a text beyond a shorter limit is computed with other
    factors than one without. Up to that limit, a text does not depend on those beside it.
    """
    limit: int | None = getattr(config, "max_position_embeddings", None)
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") == "longrope":
        return int(rotary.get("original_max_position_embeddings") or config.original_max_position_embeddings)
    return limit


def family(model_type: str) -> Family:
    """Return where a family keeps its parts.

    Raises:
        ModelError: The family is unknown; the message says what to add.
    """
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise ModelError(
            f"unknown model family {model_type!r}. Known: {', '.join(FAMILIES)}. "
            f"To add it, put one line into FAMILIES in steering/models/families.py: {model_type!r}: the paths of the "
            "module list that holds the model's blocks and of its final norm, as `print(model)` shows them."
        ) from None
