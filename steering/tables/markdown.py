"""Tables, lists and text as GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from steering.tables.wording import alignment, visible

_SPECIAL = re.compile(
    r"[\\`*|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore at the edge of a word
    r"|<(?! )"  # before a space, it starts nothing
    r"|&(?=[#\w])"
    r"|(?<=\])[(\[]"
)
# What begins a heading, a quote or another list at the start of a line.
_BLOCK = re.compile(r"^(\s*\d*)([#>+\-.)])")


def escaped(text: str) -> str:
    """Text that is shown as it is, on one line, whatever it holds."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], visible(text))


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """A table whose first line holds the headings."""
    header, *body = table
    lines = [[escaped(cell) for cell in line] for line in (header, *body)]
    lines.insert(1, ["---" if alignment(heading) == "left" else "---:" for heading in header])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def markdown_list(lines: Sequence[str]) -> str:
    """Lines as a list, an item each."""
    return "".join(f"- {_BLOCK.sub(_marked, escaped(line))}\n" for line in lines)


def _marked(found: re.Match[str]) -> str:
    return f"{found[1]}\\{found[2]}"
