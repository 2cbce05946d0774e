"""Pieces of Markdown that all pages share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

#: Turns names in backticks into links, where the reference has them.
Linker = Callable[[str], str]
_MENTION = re.compile(r"`([A-Za-z_][\w.]*)`")


def anchor(heading: str) -> str:
    """What GitHub calls a heading in links: lower case, hyphens for spaces, nothing but those and words."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def code(text: str) -> str:
    return f"`{text}`"


def block(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def one_line(text: str) -> str:
    return " ".join(text.split())


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; columns that are empty in all lines are left out, and one without lines is an empty string."""
    kept = [column for column in range(len(headings)) if any(line[column] for line in lines)]
    if not kept:
        return ""
    body = [[one_line(line[column]).replace("|", "\\|") for column in kept] for line in lines]
    rows = [[headings[column] for column in kept], ["---"] * len(kept), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def linked(text: str, target: Callable[[str], str]) -> str:
    """Text whose mentions of documented names, in backticks, are links; `target` gives a name's, or an empty string."""

    def link(found: re.Match[str]) -> str:
        place = target(found[1])
        return f"[{found[0]}]({place})" if place else found[0]

    return _MENTION.sub(link, text)


def joined(*parts: str) -> str:
    """Paragraphs, tables and headings with a blank line between them."""
    return "\n\n".join(part.strip("\n") for part in parts if part)
