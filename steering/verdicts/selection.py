"""Which cells are held against a baseline: all, or those of some methods and layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from steering.errors import ResultsError, require_known
from steering.results import Row
from steering.verdicts.baselines import Baseline, read_baseline


def read_cells(path: Path, methods: Collection[str], layers: Collection[int]) -> Baseline:
    """The cells of a baseline file that have one of these methods and layers; all for none.

    Raises:
        ResultsError: It is no baseline, or holds no such cell.
        UnknownNameError: No cell has that method, or that layer.
    """
    held = read_baseline(path)
    require_known(f"method in {path}", methods, (cell.method for cell in held.cells))
    require_known(f"layer in {path}", layers, (cell.layer for cell in held.cells))
    cells = tuple(cell for cell in held.cells if is_chosen(cell.key, methods, layers))
    if not cells:
        raise ResultsError(f"{path}: holds no cell of these methods at these layers")
    return dataclasses.replace(held, cells=cells)


def chosen_rows(rows: Sequence[Row], methods: Collection[str], layers: Collection[int]) -> list[Row]:
    """The rows of the same methods and layers, to hold against what `read_cells` gives."""
    return [row for row in rows if is_chosen((row.method, row.layer), methods, layers)]


def is_chosen(cell: tuple[str, int | None], methods: Collection[str], layers: Collection[int]) -> bool:
    """Whether a cell, its method and layer, is among those of some methods and layers; none stands for all."""
    method, layer = cell
    return (not methods or method in methods) and (not layers or layer in layers)
