"""Words before and after steering (the paper's Table I)."""

from __future__ import annotations

from collections.abc import Sequence

from steering.results import UNSTEERED, Row
from steering.tables import wording
from steering.tables.configurations import configurations

_WORD = "one_word_success"


def word_table(rows: Sequence[Row], prompts: Sequence[str], method: str, layer: int) -> list[list[str]]:
    """One line for each prompt with its most probable word, unsteered and steered, under a line of headings.

    Args:
        rows: Of one run on one concept.
        prompts: The concept's prompts for one word, in their order.
        method: Of the vectors, each of whose doses has a column.
        layer: Of the vectors.
    """
    found = [row for metrics in configurations(rows) if (row := metrics.get(_WORD)) and len(row.texts) == len(prompts)]
    wanted = [row for row in found if row.method == UNSTEERED or (row.method, row.layer) == (method, layer)]
    columns = {_heading(row): row.texts for row in wanted}
    lines = zip(prompts, *columns.values(), strict=True)
    return [["prompt", *columns], *map(list, lines)]


def _heading(row: Row) -> str:
    return "no steering" if row.method == UNSTEERED else f"{row.method} × {wording.multiplier(row)}, layer {row.layer}"
