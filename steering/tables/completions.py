"""Words before and after steering (the paper's Table I)."""

from __future__ import annotations

from collections.abc import Sequence

from steering.results import UNSTEERED, Row
from steering.tables.configurations import configurations

_WORD = "one_word_success"


def word_table(
    rows: Sequence[Row], prompts: Sequence[str], method: str, layer: int, multiplier: float
) -> list[list[str]]:
    """One line for each prompt with its most probable word, unsteered and steered, under a line of headings.

    Args:
        rows: Of one run on one concept.
        prompts: The concept's prompts for one word, in their order.
        method: Of the vector.
        layer: Of the vector.
        multiplier: Its dose, as it was asked for.
    """
    words = [configuration.get(_WORD) for configuration in configurations(rows)]
    found = [row for row in words if row is not None and len(row.texts) == len(prompts)]
    unsteered = [row for row in found if row.method == UNSTEERED]
    steered = [row for row in found if (row.method, row.layer, row.asked_multiplier) == (method, layer, multiplier)]
    columns = {name: kept[-1].texts for name, kept in (("no steering", unsteered), ("steered", steered)) if kept}
    lines = zip(prompts, *columns.values(), strict=True)
    return [["prompt", *columns], *map(list, lines)]
