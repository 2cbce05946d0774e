"""`steering merge`: joining the parts of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge_results(
    sources: Annotated[list[Path], typer.Argument(help="Results directories, as `pytest bench --shard` leaves them.")],
    output: Annotated[Path, typer.Option("--output", help="A directory without results.")],
) -> None:
    """Join the results of shards; refuse them if they contradict each other."""
    from steering.journal import load_rows
    from steering.merging import merge, write_merged
    from steering.tables.configurations import Runs
    from steering.tables.wording import counted

    rows = merge(sources)
    path = write_merged(rows, output)
    for source in sources:
        if not load_rows(source):
            typer.echo(f"note: {source} has no results", err=True)
    if differing := Runs.of(rows).differing:
        typer.echo(f"note: the sources are no parts of one run: they differ in {', '.join(differing)}", err=True)
    typer.echo(f"{counted(len(rows), 'value')} of {counted(len(sources), 'source')}: {path}")
