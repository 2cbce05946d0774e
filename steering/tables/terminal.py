"""Tables as a terminal shows them."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steering.tables.wording import alignment, visible

#: Of prose beside tables: longer lines are hard to read.
PROSE_WIDTH = 120
# Columns by which a line is known; they are repeated where a table is too wide.
_LINE_NAMES = ("run", "method", "SAE", "layer", "×")
# Characters beside a column, and of a column of words, which is folded where there is no room.
_BESIDE, _FOLDED = 3, 20


def aligned(lines: Sequence[Sequence[str]], width: int) -> str:
    """Align a table of strings, whose first line holds the headings, for a terminal of `width` columns.

    A table that is wider becomes several, which begin with the columns that name its lines. Words are folded; a number
    never is, even where the terminal is too narrow for it.
    """
    shown = [[visible(cell) for cell in line] for line in lines]
    widths = [_width(column) for column in zip(*shown, strict=True)]
    parts = _parts(shown[0], widths, width)
    return "".join(_drawn([[line[index] for index in part] for line in shown], width) for part in parts)


def _width(column: Sequence[str]) -> int:
    """Columns that a table's column takes at least, with the space beside it."""
    longest = max(map(cell_len, column))
    return _BESIDE + (min(longest, _FOLDED) if alignment(column[0]) == "left" else longest)


def _parts(headings: Sequence[str], widths: Sequence[int], width: int) -> list[list[int]]:
    """Which columns are shown together."""
    named = [index for index, heading in enumerate(headings) if heading in _LINE_NAMES]
    parts = [list(named)]
    for index in range(len(headings)):
        if index in named:
            continue
        if len(parts[-1]) > len(named) > 0 and sum(widths[each] for each in (*parts[-1], index)) > width:
            parts.append(list(named))
        parts[-1].append(index)
    return [sorted(part) for part in parts]


def _drawn(lines: Sequence[Sequence[str]], width: int) -> str:
    table = Table(box=box.SIMPLE, pad_edge=False)
    widths = [_width(column) for column in zip(*lines, strict=True)]
    for heading, taken in zip(lines[0], widths, strict=True):
        table.add_column(Text(heading), justify=alignment(heading), overflow="fold", min_width=taken - _BESIDE)
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    console = Console(file=io.StringIO(), width=max(width, sum(widths)), force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
