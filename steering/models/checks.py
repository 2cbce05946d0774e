"""What is asked of a model, held against what the model can do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

from steering.errors import DataError, NonFiniteError, UnknownNameError, VectorError
from steering.vectors import Intervention


def check_layers(layers: Sequence[int], layer_count: int, model: str) -> None:
    """Refuse a layer that the model does not have.

    Raises:
        UnknownNameError: The message names the layers there are.
    """
    for layer in layers:
        if not 0 <= layer < layer_count:
            raise UnknownNameError("layer", str(layer), [f"0 to {layer_count - 1}"], f"Model: {model}.")


def check_lengths(lengths: Sequence[int], limit: int | None, model: str) -> None:
    """Refuse texts that are longer than the model's context.

    Raises:
        DataError: The message names the longest text's length and the limit.
    """
    longest = max(lengths, default=0)
    if limit is not None and longest > limit:
        raise DataError(f"a text of {longest} tokens is longer than the {limit} that model {model} can read")


def check_tokens(rows: Sequence[Sequence[int]], vocabulary: int, model: str) -> None:
    """Refuse texts with a token that the model does not have, as of a tokenizer that was extended.

    Raises:
        DataError: The message names the token.
    """
    for row in rows:
        for token in (min(row, default=0), max(row, default=0)):
            if not 0 <= token < vocabulary:
                raise DataError(
                    f"a text holds token {token}, which model {model} does not have: ids are 0 to {vocabulary - 1}"
                )


def check_prompts(prompts: Sequence[Sequence[int]], interventions: int, new_tokens: int, vocabulary: int) -> None:
    """Refuse prompts that are not the token ids of one row each, for as many rows as there are interventions.

    Args:
        prompts: What is to be completed.
        interventions: Their number.
        new_tokens: How many are asked for.
        vocabulary: How many tokens the model knows.

    Raises:
        DataError: The message says which it is.
    """
    if len(prompts) != interventions:
        raise DataError(f"{len(prompts)} prompts and {interventions} interventions: give one of each for every row")
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, Sequence) or not prompt or not all(isinstance(token, Integral) for token in prompt):
            raise DataError(f"prompt {row} is {prompt!r}: give the token ids of each prompt, at least one")
        if not 0 <= min(prompt) <= max(prompt) < vocabulary:
            raise DataError(f"prompt {row} holds a token that the model does not have: ids are 0 to {vocabulary - 1}")
    if new_tokens < 1:
        raise DataError(f"{new_tokens} new tokens were asked for; at least 1 is needed")


def check_interventions(
    interventions: Sequence[Intervention | None], layer_count: int, d_model: int, model: str
) -> None:
    """Refuse vectors of another width or layer than the model has, and multipliers that are no number.

    Raises:
        UnknownNameError: The model has no such layer.
        VectorError: The width is another.
        NonFiniteError: The multiplier is NaN or infinite.
    """
    for intervention in interventions:
        if intervention is None:
            continue
        if not isinstance(intervention, Intervention):
            kind = type(intervention).__name__
            raise VectorError(
                f"interventions hold a {kind}; give each vector its multiplier: Intervention(vector, 1.0)"
            )
        vector = intervention.vector
        check_layers([vector.layer], layer_count, model)
        if vector.direction.shape[0] != d_model:
            width = vector.direction.shape[0]
            raise VectorError(f"{vector.label}: its width is {width}, but model {model} has d_model {d_model}")
        if not math.isfinite(intervention.multiplier):
            raise NonFiniteError(f"{vector.label}: multiplier {intervention.multiplier} is not finite")
