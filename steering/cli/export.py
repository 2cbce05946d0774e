"""`steering export`: results in the formats that people and other programs read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steering.cli.options import Methods, Metrics, Results, RunName, parse_layer_filter, parse_names
from steering.cli.printing import FILE_WIDTH, terminal_width
from steering.errors import DataError, ResultsError
from steering.files import make_directory, write_file

if TYPE_CHECKING:
    from steering.results import Row


class Format(StrEnum):
    """Formats of `steering export`."""

    text = "text"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    parquet = "parquet"
    json = "json"
    bencher = "bencher"
    benchmark_smaller = "benchmark-smaller"
    benchmark_bigger = "benchmark-bigger"


_SUFFIXES = {
    ".csv": Format.csv,
    ".md": Format.markdown,
    ".tex": Format.latex,
    ".parquet": Format.parquet,
    ".json": Format.json,
    ".txt": Format.text,
    "": Format.text,
}


def export_results(
    results: Results,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="text, markdown, latex: the tables. csv: every value. parquet, json: items and texts, too. bencher, "
            "benchmark-smaller, benchmark-bigger: for Bencher and github-action-benchmark. By default what the name of "
            "--output ends in (.csv, .md, .tex, .parquet, .json), or text.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here instead of to standard output.")
    ] = None,
    methods: Methods = "",
    layers: Annotated[
        str, typer.Option(help="Only these blocks, for instance 8,20 or 8-12, and the unsteered run.")
    ] = "",
    metrics: Metrics = "",
    run: RunName = "all",
    pivot: Annotated[
        str, typer.Option(metavar="METRIC", help="One metric, layers by methods (text, markdown, latex, csv, parquet).")
    ] = "",
) -> None:
    """Print or write what was measured: tables for people, or values for other programs."""
    from steering.journal import load_rows, require_other_file
    from steering.tables.row_filters import RowFilter

    if output is not None:
        require_other_file(output, results)
    if form is None:
        form = Format.text if output is None else _format_of(output)
    width = terminal_width() if output is None else FILE_WIDTH
    if form is Format.parquet and output is None:
        raise ResultsError("--format parquet is not text: name a file with --output")
    if pivot and form not in (pivots := _pivots(width)):
        raise ResultsError(f"--pivot makes a table, and --format {form} holds none; choose {', '.join(pivots)}")
    rows = load_rows(results)
    if not rows:
        raise ResultsError(f"{results}: no results in it yet")
    wanted = RowFilter(
        parse_names(methods, "--methods"), parse_layer_filter(layers), parse_names(metrics, "--metrics"), run
    ).apply(rows)
    if not wanted:
        raise ResultsError(f"{results}: no row matches all of --methods, --layers, --metrics and --run")
    if output is not None:
        make_directory(output.parent)
    content = _content(form, wanted, rows, pivot, width)
    if output is None:
        typer.echo(content, nl=False)
    else:
        write_file(output, content.encode() if isinstance(content, str) else content)


def _format_of(output: Path) -> Format:
    """The format that a file's name ends in; a device takes text.

    Raises:
        DataError: No format has such files.
    """
    if output.suffix.lower() not in _SUFFIXES and not output.is_char_device():
        known = ", ".join(filter(None, _SUFFIXES))
        raise DataError(f"--output {output}: names of files end in {known}; for another name give --format, too")
    return _SUFFIXES.get(output.suffix.lower(), Format.text)


def _pivots(width: int) -> dict[Format, Callable[[Sequence[Row], str], str | bytes]]:
    from steering.tables import export
    from steering.tables.markdown import markdown_table
    from steering.tables.pivots import pivot_table
    from steering.tables.terminal import aligned

    return {
        Format.text: lambda rows, metric: aligned(pivot_table(rows, metric), width),
        Format.csv: export.pivot_to_csv,
        Format.markdown: lambda rows, metric: markdown_table(pivot_table(rows, metric)),
        Format.latex: lambda rows, metric: export.to_latex({metric: pivot_table(rows, metric)}),
        Format.parquet: export.pivot_to_parquet,
    }


def _content(form: Format, wanted: Sequence[Row], rows: Sequence[Row], pivot: str, width: int) -> str | bytes:
    """The chosen rows in a format; tables say of some things how they stand among all rows."""
    from steering.tables import export, trackers

    if pivot:
        return _pivots(width)[form](wanted, pivot)
    writers: dict[Format, Callable[[], str | bytes]] = {
        Format.text: lambda: export.to_text(wanted, width, rows),
        Format.markdown: lambda: export.to_markdown(wanted, rows),
        Format.latex: lambda: export.to_latex(export.result_tables(wanted, rows)),
        Format.csv: lambda: export.to_csv(wanted),
        Format.parquet: lambda: export.to_parquet(wanted),
        Format.json: lambda: export.to_json(wanted),
        Format.bencher: lambda: trackers.to_bencher(wanted),
        Format.benchmark_smaller: lambda: trackers.to_benchmark_action(wanted, better="smaller"),
        Format.benchmark_bigger: lambda: trackers.to_benchmark_action(wanted, better="bigger"),
    }
    return writers[form]()
