"""Printing tables as wide as the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import typer

#: Columns where output goes to a file or another program.
FILE_WIDTH = 200


def terminal_width() -> int:
    """Columns of the terminal, or of the lines that go elsewhere."""
    return shutil.get_terminal_size((FILE_WIDTH, 24)).columns


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print a table whose first line holds the headings, aligned."""
    from steering.tables.terminal import aligned

    typer.echo(aligned(lines, terminal_width()), nl=False)
