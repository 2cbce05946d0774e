"""The embedded model in a form that transformers 4 reads as it is meant.

Transformers 5 writes rope's parameters as one object, under a key that transformers 4 does not know. It then takes its
default rope_theta, without a word, and computes another model. The tokenizer's class is unknown to it, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steering.errors import ModelError

_LINKED = ("model.safetensors", "generation_config.json", "tokenizer.json")


def write_for_transformers_4(source: Path, target: Path) -> None:
    """Make a directory that transformers 4 loads, with links to the files that need no change.

    Raises:
        ModelError: The model's rope is of a kind that is not converted here.
    """
    target.mkdir()
    for name in _LINKED:
        (target / name).symlink_to((source / name).resolve())
    for name, convert in (("config.json", older_config), ("tokenizer_config.json", older_tokenizer_config)):
        values = json.loads((source / name).read_text(encoding="utf-8"))
        (target / name).write_text(json.dumps(convert(values), indent=1), encoding="utf-8")


def older_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrite a model's config.json for transformers 4.

    Raises:
        ModelError: Its rope is not the default one with a theta of its own.
    """
    older = {key: value for key, value in config.items() if key != "rope_parameters"}
    if "rope_parameters" not in config:
        return older
    rope = config["rope_parameters"]
    if set(rope) != {"rope_theta", "rope_type"} or rope["rope_type"] != "default":
        raise ModelError(f"config.json: rope_parameters {rope} cannot be written for transformers 4")
    return older | {"rope_theta": rope["rope_theta"]}


def older_tokenizer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrite a tokenizer_config.json for transformers 4, whose class for a bare tokenizer.json has another name."""
    older = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    return {**config, **older}
