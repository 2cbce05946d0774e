"""`steering export`: results in the formats that people and other programs read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steering.cli.options import parse_layers
from steering.errors import ResultsError
from steering.files import write_file

if TYPE_CHECKING:
    from steering.results import Row


class Format(StrEnum):
    """Formats of `steering export`."""

    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    parquet = "parquet"
    json = "json"
    bencher = "bencher"
    benchmark_smaller = "benchmark-smaller"
    benchmark_bigger = "benchmark-bigger"


def export_results(
    results: Annotated[Path, typer.Argument(help="A results directory or its results.jsonl.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="markdown, latex: the tables. csv: every value. parquet, json: items and texts, too. bencher, "
            "benchmark-smaller, benchmark-bigger: for Bencher and github-action-benchmark.",
        ),
    ] = Format.markdown,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here instead of to standard output.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only these methods, with commas or given again.")] = None,
    layers: Annotated[str, typer.Option(help="Only these blocks, for instance 8,20, and the unsteered run.")] = "",
    metric: Annotated[list[str] | None, typer.Option(help="Only these metrics, with commas or given again.")] = None,
    run: Annotated[str, typer.Option(help="Only this run: its name, or 'last'.")] = "all",
    pivot: Annotated[
        str, typer.Option(metavar="METRIC", help="One metric, layers by methods (csv, markdown, latex, parquet).")
    ] = "",
) -> None:
    """Print or write what was measured: tables for people, or values for other programs."""
    from steering.results import load_rows, require_other_file
    from steering.tables.row_filters import RowFilter

    if output is not None:
        require_other_file(output, results)
    if form is Format.parquet and output is None:
        raise ResultsError("--format parquet is no text: name a file with --output")
    if pivot and form not in (pivots := _pivots()):
        raise ResultsError(f"--pivot makes a table, and --format {form} holds none; choose {', '.join(pivots)}")
    rows = load_rows(results)
    if not rows:
        raise ResultsError(f"{results}: no results in it yet")
    chosen = parse_layers(layers) if layers else ()
    wanted = RowFilter(_names(method), chosen, _names(metric), run).apply(rows)
    if not wanted:
        raise ResultsError(f"{results}: no row has all of what --method, --layers, --metric and --run ask for")
    content = _content(form, wanted, rows, pivot)
    if output is None:
        typer.echo(content, nl=False)
    else:
        write_file(output, content.encode() if isinstance(content, str) else content)


def _names(given: Sequence[str] | None) -> tuple[str, ...]:
    """Names from options that were given several times, or with commas."""
    return tuple(name.strip() for text in given or () for name in text.split(",") if name.strip())


def _pivots() -> dict[Format, Callable[[Sequence[Row], str], str | bytes]]:
    from steering.tables import export

    return {
        Format.csv: export.pivot_to_csv,
        Format.markdown: export.pivot_to_markdown,
        Format.latex: export.pivot_to_latex,
        Format.parquet: export.pivot_to_parquet,
    }


def _content(form: Format, wanted: Sequence[Row], rows: Sequence[Row], pivot: str) -> str | bytes:
    """The chosen rows in a format; tables say of some things how they stand among all rows."""
    from steering.tables import export, trackers

    if pivot:
        return _pivots()[form](wanted, pivot)
    writers: dict[Format, Callable[[], str | bytes]] = {
        Format.markdown: lambda: export.to_markdown(wanted, rows),
        Format.latex: lambda: export.to_latex(wanted, rows),
        Format.csv: lambda: export.to_csv(wanted),
        Format.parquet: lambda: export.to_parquet(wanted),
        Format.json: lambda: export.to_json(wanted),
        Format.bencher: lambda: trackers.to_bencher(wanted),
        Format.benchmark_smaller: lambda: trackers.to_benchmark_action(wanted, better="smaller"),
        Format.benchmark_bigger: lambda: trackers.to_benchmark_action(wanted, better="bigger"),
    }
    return writers[form]()
