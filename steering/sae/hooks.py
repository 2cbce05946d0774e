"""Hook names and layers: the one place where SAELens's names of a place are converted to this project's."""

from __future__ import annotations

import re
from pathlib import Path

from steering.errors import SaeError

#: Models that SAELens calls otherwise than Hugging Face.
_ALIASES = {"gpt2-small": "gpt2"}
_HOOK = re.compile(r"blocks\.(\d{1,4})\.hook_resid_(pre|post)|(?:[\w.]+\.)?(?:h|layers)\.(\d{1,4})")


def layer_of_hook(hook_name: str) -> int:
    """Convert a hook name to a layer: the block, counted from 0, whose output it is.

    `blocks.{k+1}.hook_resid_pre` and `blocks.{k}.hook_resid_post` are both the output of block k, as is the module name
    `model.layers.{k}` or `transformer.h.{k}`.

    Raises:
        SaeError: The hook is not the output of a block.
    """
    match = _HOOK.fullmatch(hook_name)
    if match is None:
        raise SaeError(
            f"hook {hook_name!r} is not the residual stream after a block; an SAE of hook_resid_pre or "
            "hook_resid_post is required"
        )
    index = int(match[1] or match[3])
    layer = index - 1 if match[2] == "pre" else index
    if layer < 0:
        raise SaeError(f"hook {hook_name!r} is the embeddings, which are the output of no block")
    return layer


def same_model(name: str, other: str) -> bool:
    """Whether two names are of one model: the part after a repository's owner counts, without case."""
    own, others = (Path(each).name.lower() for each in (name, other))
    return _ALIASES.get(own, own) == _ALIASES.get(others, others)
