"""Results in the formats that other programs read."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from steering.concepts import DEVELOPMENT, TEST
from steering.profiles import Profile
from steering.results import SAE, Row
from steering.tables.captions import CAPTIONS, IMPROVEMENTS
from steering.tables.cells import feature_summary, sae_summary, summary
from steering.tables.comparisons import control_summary, dose_summary, selection_summary
from steering.tables.configurations import Runs, on_split
from steering.tables.csv_format import spreadsheet_cell
from steering.tables.damage import damage_summary
from steering.tables.failures import failed_cells, failure_summary
from steering.tables.latex import tabular
from steering.tables.markdown import escaped, markdown_table
from steering.tables.pareto import pareto_statement, pareto_summary
from steering.tables.pivots import pivot_frame
from steering.tables.separation import separation_summary
from steering.tables.terminal import PROSE_WIDTH, aligned
from steering.tables.wording import visible

_FEATURE = pa.struct([("feature", pa.int64()), ("weight", pa.float64()), ("description", pa.string())])
_TYPES = {
    **dict.fromkeys(("layer", "seed", "n", "schema_version"), pa.int64()),
    **dict.fromkeys(("multiplier", "vector_norm", "value", "low", "high", "p_value", "p_control"), pa.float64()),
    "is_control": pa.bool_(),
    "items": pa.list_(pa.float64()),
    "texts": pa.list_(pa.string()),
    "features": pa.list_(_FEATURE),
}
# All other fields of a row are strings, or objects that are written as JSON.
_SCHEMA = pa.schema([(field.name, _TYPES.get(field.name, pa.string())) for field in fields(Row)])


def result_tables(
    rows: Sequence[Row], among: Sequence[Row] | None = None, neutral_bound: float = Profile.neutral_bound
) -> dict[str, list[list[str]]]:
    """Title -> table, of every table that has lines.

    Args:
        rows: Of one or several runs.
        among: All rows that were measured, where `rows` are a selection of them, as in `summary`.
        neutral_bound: Of the neutral loss change of a layer that is chosen, nats per token.
    """
    everything = rows if among is None else among
    test, all_test = on_split(rows, TEST), on_split(everything, TEST)
    development, all_development = on_split(rows, DEVELOPMENT), on_split(everything, DEVELOPMENT)
    # Rows that one table tells apart, all do: whose they are is not to be guessed from the others.
    runs, development_runs = Runs.of(test), Runs.of(development)
    autoencoders = [row for row in rows if row.method == SAE]
    tables = {
        "Cells": summary(test, among=all_test, runs=runs),
        "Controls": control_summary(test, all_test, runs),
        "Doses": dose_summary(rows, runs),
        "Neutral documents": damage_summary(test, runs),
        "Separation of test pairs": separation_summary(test, all_test, runs),
        "Selection": selection_summary(rows, everything, neutral_bound, development_runs),
        IMPROVEMENTS: pareto_summary(test, all_test, runs),
        "Cells on the development split": summary(development, among=all_development, runs=development_runs),
        "Features": feature_summary(test, runs),
        "Sparse autoencoders": sae_summary(autoencoders, runs=_runs(rows, autoencoders)),
        "Not measured": failure_summary(rows, _runs(rows, failed_cells(rows))),
    }
    return {title: table for title, table in tables.items() if len(table) > 1}


def _runs(rows: Sequence[Row], shown: Sequence[Row]) -> Runs:
    """What tells apart the rows of those splits that a table shows."""
    splits = {row.split for row in shown}
    return Runs.of([row for row in rows if row.split in splits])


def to_markdown(rows: Sequence[Row], among: Sequence[Row] | None = None) -> str:
    """Every table under a heading, as GitHub's Markdown; arguments as in `result_tables`."""
    found = result_tables(rows, among)
    tables = [f"### {title}\n\n{markdown_table(table)}" for title, table in found.items()]
    statement = pareto_statement(rows, among)
    return "\n".join([*tables, *([f"{escaped(statement)}\n"] if statement else [])])


def to_text(rows: Sequence[Row], width: int, among: Sequence[Row] | None = None) -> str:
    """Every table between its title and its caption, for a terminal of `width` columns.

    Other arguments are as in `result_tables`.
    """
    found = result_tables(rows, among)
    captions = {
        title: textwrap.fill(CAPTIONS[title], min(width, PROSE_WIDTH), break_on_hyphens=False) for title in found
    }
    tables = [f"{title}\n{aligned(table, width)}{captions[title]}\n" for title, table in found.items()]
    statement = pareto_statement(rows, among)
    return "\n".join([*tables, *([f"{textwrap.fill(visible(statement), width)}\n"] if statement else [])])


def to_latex(tables: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """Tables by their titles, each as a tabular environment."""
    parts = [f"\n% {title}\n{tabular(table)}" for title, table in tables.items()]
    return "% Needs \\usepackage{booktabs}.\n" + "".join(parts)


def to_csv(rows: Sequence[Row]) -> str:
    """One line for each metric value, at full precision; per-item values and texts stay in the journal."""
    names = [field.name for field in fields(Row) if field.name not in ("items", "texts", "features")]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow({key: spreadsheet_cell(value) for key, value in _record(row).items()})
    return buffer.getvalue()


def _record(row: Row) -> dict[str, Any]:
    """The fields of a row, with its objects as JSON."""
    return {key: json.dumps(value) if isinstance(value, dict) else value for key, value in asdict(row).items()}


def to_parquet(rows: Sequence[Row]) -> bytes:
    """One line for each metric value, with every field: items, texts and features are lists, objects are JSON."""
    return _parquet(pa.Table.from_pylist([_record(row) for row in rows], schema=_SCHEMA))


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def to_json(rows: Sequence[Row]) -> str:
    """The rows as the journal has them, in one array."""
    return "[\n" + ",\n".join(row.to_json() for row in rows) + "\n]\n"


def pivot_to_csv(rows: Sequence[Row], metric: str) -> str:
    """A metric by layer and method, at full precision."""
    frame = pivot_frame(rows, metric).rename(columns=spreadsheet_cell)
    if isinstance(frame.index, pd.MultiIndex):
        frame.index = frame.index.map(lambda index: tuple(map(spreadsheet_cell, index)))
    return str(frame.to_csv(lineterminator="\n"))


def pivot_to_parquet(rows: Sequence[Row], metric: str) -> bytes:
    """A metric by layer and method, at full precision."""
    return _parquet(pa.Table.from_pandas(pivot_frame(rows, metric).reset_index(), preserve_index=False))
