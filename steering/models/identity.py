"""What tells one model from another, or one sparse autoencoder: its weights, and what is computed with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from steering.hashing import json_hash

#: In a configuration, where it was read from and by which release; they change no number.
_NOT_COMPUTED_WITH = ("_name_or_path", "transformers_version")
#: In a tokenizer, what its last call left there.
_OF_THE_LAST_CALL = ("padding", "truncation")


def weights_hash(tensors: Iterable[tuple[str, torch.Tensor]], *, beginning: str = "") -> str:
    """SHA-256 of a text and of tensors, with their names, in their order."""
    digest = hashlib.sha256(beginning.encode())
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def configuration(config: PretrainedConfig) -> dict[str, Any]:
    """Every setting of a model, those with default values included: equal weights compute other numbers by others."""
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in found.items() if key not in _NOT_COMPUTED_WITH}


def settings_hash(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int]) -> str:
    """SHA-256 of what a model computes with besides its weights.

    Args:
        config: Of the model.
        tokenizer: A fast tokenizer.
        end_ids: The tokens that end a text.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = {key: value for key, value in rules.items() if key not in _OF_THE_LAST_CALL}
    content = [configuration(config), tokens, tokenizer.special_tokens_map, sorted(end_ids)]
    return json_hash(content)
