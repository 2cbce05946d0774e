"""What is asked of a model, held against what the model can do."""

from __future__ import annotations

import math
import reprlib
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


def check_texts(texts: Sequence[Sequence[int]], vocabulary: int, model: str) -> None:
    """Refuse texts that are not token ids of the model; a tokenizer that was extended has others.

    Raises:
        DataError: The message names the text, or the token.
    """
    for number, text in enumerate(texts):
        if not _has_tokens(text):
            raise DataError(f"text {number} is {reprlib.repr(text)}: give a list of token ids, at least one")
        for token in (min(text), max(text)):
            if not 0 <= token < vocabulary:
                raise DataError(
                    f"text {number} holds token {token}, which model {model} does not have: ids are 0 to "
                    f"{vocabulary - 1}"
                )


def _has_tokens(text: Sequence[int]) -> bool:
    try:
        return len(text) > 0 and all(isinstance(token, Integral) for token in text)
    except TypeError:  # it has no length
        return False


def check_rows(prompts: int, interventions: int, new_tokens: int) -> None:
    """Refuse another number of interventions than of prompts, and to generate nothing.

    Args:
        prompts: How many are to be completed.
        interventions: How many there are.
        new_tokens: How many are asked for.

    Raises:
        DataError: The message says which it is.
    """
    if prompts != interventions:
        raise DataError(f"{prompts} prompts and {interventions} interventions: give one of each for every row")
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
