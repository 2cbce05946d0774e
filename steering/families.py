"""Where a model family keeps its blocks: the one record that a new family needs."""

from __future__ import annotations

from steering.errors import ModelError

#: `model_type` of a Hugging Face config -> path of the list of blocks inside the causal language model.
BLOCK_LISTS: dict[str, str] = {
    "gemma": "model.layers",
    "gemma2": "model.layers",
    "gemma3_text": "model.layers",
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "llama": "model.layers",
    "mistral": "model.layers",
    "opt": "model.decoder.layers",
    "phi": "model.layers",
    "phi3": "model.layers",
    "qwen2": "model.layers",
    "qwen3": "model.layers",
}


def block_list(model_type: str) -> str:
    """Return the path of a family's block list.

    Raises:
        ModelError: The family is unknown; the message says what to add.
    """
    try:
        return BLOCK_LISTS[model_type]
    except KeyError:
        raise ModelError(
            f"unknown model family {model_type!r}. Known: {', '.join(BLOCK_LISTS)}. "
            f"To add it, put one line into BLOCK_LISTS in steering/families.py: {model_type!r}: the path of the "
            "module list that holds the model's blocks, as `print(model)` shows it."
        ) from None
