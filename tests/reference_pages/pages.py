"""All pages of the reference: which there are, and how they lead to each other."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from tests.documents import ROOT
from tests.reference_pages import command_line
from tests.reference_pages.contents import PAGES, Page
from tests.reference_pages.markdown import Linker, anchor, joined, linked, table
from tests.reference_pages.python_objects import Entry, entry, markdown_of

DIRECTORY = ROOT / "docs" / "reference"
COMMAND = "python -m tests.reference_pages"

_NOTICE = f"<!-- Made from the docstrings by `{COMMAND}`. Edit those, not this page. -->"
_INDEX = """\
What can be imported, and what can be typed. A test holds these pages against the docstrings that they are made from.
Shapes name their axes as the [architecture](../architecture.md#conventions) does."""


def pages() -> dict[str, str]:
    """File -> text."""
    entries = {page.file: [entry(path) for path in page.names] for page in PAGES}
    found = {"README.md": _index(entries), "command-line.md": command_line.page()}
    for page in PAGES:
        link = _linker(entries, page.file)
        sections = [markdown_of(each, link) for each in entries[page.file]]
        more = page.more(link) if page.more else ""
        found[page.file] = joined(f"# {page.title}", _filled(link(page.introduction)), *sections, more)
    return {file: f"{_NOTICE}\n\n{text}\n" for file, text in found.items()}


def write(directory: Path) -> None:
    """Write all pages, and remove those that are there no longer."""
    found = pages()
    directory.mkdir(exist_ok=True)
    for path in directory.glob("*.md"):
        if path.name not in found:
            path.unlink()
    for name, text in found.items():
        (directory / name).write_text(text, encoding="utf-8")


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _index(entries: dict[str, list[Entry]]) -> str:
    lines = [[f"[{page.title}]({page.file})", _names(page, entries[page.file])] for page in PAGES]
    lines.append(["[Command line](command-line.md)", "`steering` and its commands, `pytest bench`"])
    return joined("# Reference", _INDEX, table(("page", "what it holds"), lines))


def _names(page: Page, entries: Sequence[Entry]) -> str:
    return ", ".join(f"[`{each.name}`]({page.file}#{anchor(each.name)})" for each in entries)


def _linker(entries: dict[str, list[Entry]], file: str) -> Linker:
    """Links from one page to what is on it and on others; what has the same name elsewhere is linked here first."""
    targets: dict[str, str] = {}
    for page in sorted(entries, key=lambda page: page != file):
        place = "" if page == file else page
        for each in entries[page]:
            targets.setdefault(each.name, f"{place}#{anchor(each.name)}")
            targets.setdefault(f"{each.module}.{each.name}", f"{place}#{anchor(each.name)}")
            for function in each.functions:
                name = f"{each.name}.{function.name}"
                targets.setdefault(name, f"{place}#{anchor(name)}")
    return lambda text: linked(text, lambda name: targets.get(name, ""))
