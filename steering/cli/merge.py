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
    from steering.merging import merge, write_merged
    from steering.tables.wording import counted

    rows = merge(sources)
    path = write_merged(rows, output)
    typer.echo(f"{counted(len(rows), 'value')} of {counted(len(sources), 'source')}: {path}")
