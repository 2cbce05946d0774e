"""Joining the journals of a run's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steering.errors import ResultsError
from steering.files import make_directory, write_file
from steering.journal import FILE_NAME, journal_file, load_rows
from steering.results import Row, cell_id


def merge(sources: Sequence[Path]) -> list[Row]:
    """Join the rows of several journals; what more than one of them measured stands there once.

    Shards share the unsteered run: on machines of one kind it is equal to the last bit. Where each journal is of one
    run, all rows get the name of the last, so that the parts are one run from then on.

    Args:
        sources: Results directories or journals.

    Raises:
        ResultsError: One of them cannot be read, or two say different things about the same measurement.
    """
    joined: dict[tuple[Any, ...], tuple[Row, Path]] = {}
    files = [journal_file(source).resolve() for source in sources]
    if twice := next((source for source, file in zip(sources, files, strict=True) if files.count(file) > 1), None):
        raise ResultsError(f"{twice} was given more than once; give each part once")
    for source in sources:
        for row in load_rows(source):
            known = joined.setdefault((*row.cell, row.metric), (row, source))
            if _measured(known[0]) != _measured(row):
                raise ResultsError(_contradiction(*known, row, source))
    if not joined:
        raise ResultsError(f"no results in {', '.join(map(str, sources))}: there is nothing to merge")
    _check_vectors(list(joined.values()))
    rows = [row for row, _ in joined.values()]
    runs = {(source, row.run) for row, source in joined.values()}
    if len(runs) > len({source for source, _ in runs}):
        return rows
    last = max(run for _, run in runs)
    return [replace(row, run=last) for row in rows]


def write_merged(rows: Sequence[Row], directory: Path) -> Path:
    """Write rows as the journal of a new results directory, whole or not at all.

    Raises:
        ResultsError: There is a journal already, or the directory cannot be written.
    """
    path = directory / FILE_NAME
    if path.exists():
        raise ResultsError(f"{path}: exists already; give a directory without results with --output")
    make_directory(directory)
    write_file(path, "".join(row.to_json() + "\n" for row in rows).encode())
    return path


def _check_vectors(joined: Sequence[tuple[Row, Path]]) -> None:
    """Refuse a cell that had a vector in one journal and none in another."""
    made = {(row.place, row.set_multiplier): (row, source) for row, source in joined if not row.lacks_vector}
    for row, source in joined:
        known = made.get((row.place, row.set_multiplier))
        if row.lacks_vector and known and known[1] != source:
            raise ResultsError(_contradiction(*known, row, source))


def _measured(row: Row) -> tuple[Any, ...]:
    """What two measurements of one thing have to agree on."""
    return (*_seen(row), row.is_control, row.control, row.p_control)


def _seen(row: Row) -> tuple[Any, ...]:
    """The same, whatever it is held against."""
    return (
        *_added(row),
        row.status,
        row.reason,
        row.n,
        row.value,
        row.low,
        row.high,
        row.p_value,
        row.items,
        row.texts,
    )


def _added(row: Row) -> tuple[str, float]:
    return row.vector_hash, row.multiplier


def _items(row: Row) -> tuple[Any, ...]:
    return row.items, row.texts


def _held(row: Row) -> str:
    if row.is_control:
        return "a control"
    return f"held against control {row.control!r} (p = {row.p_control})"


def _contradiction(first: Row, where: Path, second: Row, there: Path) -> str:
    cell = cell_id(first.method, first.layer)
    found = [f"{row.value} (n = {row.n})" if row.status == "ok" else row.status for row in (first, second)]
    differing = f"{found[0]} in {where}, {found[1]} in {there}"
    if _added(first) != _added(second):
        differing = f"what was added in {where} is not what was added in {there}"
    elif _seen(first) == _seen(second):
        differing = f"it is {_held(first)} in {where}, and {_held(second)} in {there}"
    elif found[0] == found[1]:
        what = "another interval, p value or reason" if _items(first) == _items(second) else "other items"
        differing = f"{what} in {where} than in {there}, though {found[0]} in both"
    return (
        f"{cell}: {first.metric} was measured twice, and differently: {differing}. "
        "Merge parts of one run, made on machines of one kind; leave out or repeat one of the two."
    )
