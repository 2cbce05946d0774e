"""`steering compare`, `steering baseline` and `steering power`: regressions, and what can be seen of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from steering.cli.options import Layers, Methods, Results, RunName, parse_layer_filter, parse_names
from steering.cli.printing import print_table
from steering.errors import DataError, ResultsError, SchemaError
from steering.files import turns_at
from steering.profiles import Profile
from steering.verdicts.baselines import GATED, Baseline, read_baseline, write_baseline
from steering.verdicts.selection import chosen_rows, read_cells

app = typer.Typer(
    help="Write and show what later runs are compared with.", no_args_is_help=True, rich_markup_mode="markdown"
)

_METRICS = ", ".join(metric.name for metric in GATED)


class Layout(StrEnum):
    """How tables are printed."""

    text = "text"
    markdown = "markdown"


class ReportFormat(StrEnum):
    """How a comparison is printed."""

    text = "text"
    markdown = "markdown"
    json = "json"


def compare(
    baseline: Annotated[
        Path, typer.Argument(help="A baseline file, or earlier results, which are used as a baseline but not written.")
    ],
    results: Results,
    methods: Methods = "",
    layers: Layers = "",
    run: RunName = "all",
    form: Annotated[ReportFormat, typer.Option("--format", help="text, markdown or json.")] = ReportFormat.text,
) -> None:
    """Compare results with a baseline: one verdict for each cell.

    --run selects from the results, --methods and --layers from both. What a later run measured again belongs only to
    that run.

    Exit status: 0 no cell is worse; 1 a cell regressed, failed or is missing; 6 a cell cannot be compared (another
    model, dtype, data, settings or dose); 2 the command or a file is wrong. At most one run in twenty of unchanged code
    exits with 1.
    """
    from steering.journal import load_rows
    from steering.tables import gate as gate_tables
    from steering.tables.row_filters import RowFilter
    from steering.verdicts.gate import NOT_COMPARABLE_STATUS
    from steering.verdicts.gate import compare as compare_with

    names, blocks = parse_names(methods, "--methods"), parse_layer_filter(layers)
    if results.is_file() and results.suffix == ".json":
        if _holds_rows(baseline):
            swapped = f"steering compare {results} {baseline}"
            raise ResultsError(f"the baseline comes before what is compared with it: {swapped}")
        raise ResultsError(f"{results}: it looks like a baseline; give a results directory or its results.jsonl")
    rows = RowFilter(run=run).apply(load_rows(results))
    try:
        held = _baseline(baseline, names, blocks)
    except SchemaError as error:
        typer.echo(f"not comparable: {error}", err=True)
        raise typer.Exit(NOT_COMPARABLE_STATUS) from None
    report = compare_with(held, chosen_rows(rows, names, blocks))
    if form is ReportFormat.json:
        typer.echo(gate_tables.to_json(report), nl=False)
    else:
        _print(gate_tables.verdict_table(report), Layout(form))
        _print_remarks(gate_tables.remarks(report), Layout(form))
    raise typer.Exit(report.exit_code)


def power(
    rollouts: Annotated[int, typer.Option(min=1, max=20_000, help="Rollouts of a new run.")] = Profile.rollouts,
    baseline_rollouts: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rollouts of the baseline.")] = 2000,
    cells: Annotated[int, typer.Option(min=1, help="Methods × layers that are compared.")] = 40,
    level: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Level of the gate on rollouts, over all cells.")
    ] = GATED[0].level,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Level of the claim to be above the unsteered run.")
    ] = Profile.alpha,
    form: Annotated[Layout, typer.Option("--format", help="text or markdown.")] = Layout.text,
) -> None:
    """Print what a number of rollouts can show: drops that the gate finds, and rises that support a claim."""
    from steering.tables import gate as gate_tables
    from steering.tables.wording import counted

    typer.echo(
        f"How probably the gate finds a drop in one of {counted(cells, 'cell')}: {rollouts} rollouts against "
        f"{baseline_rollouts} of the baseline, Fisher's exact test, level {level:g} over all cells.\n"
    )
    _print(gate_tables.drop_table(rollouts, baseline_rollouts, cells, level), form)
    typer.echo(
        f"\nSmallest rise above the unsteered run that is found with 80 %: {rollouts} pairs of rollouts, taken as "
        f"independent, exact McNemar test, alpha {alpha:g}.\n"
    )
    _print(gate_tables.rise_table(rollouts, cells, alpha), form)


@app.command("promote")
def promote_results(
    results: Results,
    output: Annotated[Path, typer.Option(help="The baseline file; an existing one is replaced.")],
    methods: Methods = "",
    layers: Layers = "",
    run: RunName = "all",
    required_rollouts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Fewest rollouts that a later run needs; by default 200, or the baseline's if it has fewer.",
        ),
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(help=f"A tolerated change for the worse: METRIC=VALUE; repeatable. Metrics: {_METRICS}."),
    ] = None,
    keep_others: Annotated[
        bool,
        typer.Option("--keep-others", help="Keep the existing file's margins, and its cells that are not promoted."),
    ] = False,
) -> None:
    """Make measured cells the baseline of later runs, and say what changes relative to the existing one.

    Controls are left out. Nothing is written if a cell failed or the results do not belong together.
    """
    from steering.journal import load_rows
    from steering.tables.row_filters import RowFilter
    from steering.tables.wording import counted
    from steering.verdicts.promotion import promote, with_others

    if keep_others and (margin or required_rollouts):
        raise DataError("--keep-others keeps the margins and the required rollouts of the file, too: give no others")
    promoted = promote(
        RowFilter(run=run).apply(load_rows(results)),
        methods=parse_names(methods, "--methods"),
        layers=parse_layer_filter(layers),
        required_rollouts=required_rollouts,
        margins=dict(map(_margin, margin or [])),
    )
    with turns_at(output):
        if keep_others and output.exists():
            promoted = with_others(promoted, read_baseline(output))
        changes = _changes(output, promoted)
        write_baseline(promoted, output)
    typer.echo("\n".join([*changes, f"{output}: {counted(len(promoted.cells), 'cell')}"]))


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A baseline file.")],
    form: Annotated[Layout, typer.Option("--format", help="text or markdown.")] = Layout.text,
) -> None:
    """Print what a baseline holds and when a run can be compared with it."""
    from steering.tables import gate as gate_tables
    from steering.tables.wording import visible

    baseline = read_baseline(file)
    for field in dataclasses.fields(baseline):
        if field.name != "cells":
            typer.echo(visible(f"{field.name + ':':<20}{_shown(getattr(baseline, field.name))}"))
    typer.echo("")
    _print(gate_tables.baseline_table(baseline), form)


def _print(table: Sequence[Sequence[str]], form: Layout) -> None:
    from steering.tables.markdown import markdown_table

    if form is Layout.markdown:
        typer.echo(markdown_table(table), nl=False)
    else:
        print_table(table)


def _print_remarks(remarks: Sequence[str], form: Layout) -> None:
    from steering.tables.markdown import markdown_list
    from steering.tables.wording import visible

    listed = markdown_list(remarks) if form is Layout.markdown else "".join(f"{visible(line)}\n" for line in remarks)
    typer.echo(listed, nl=False)


def _shown(value: object) -> str:
    return ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, dict) else str(value)


def _holds_rows(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".jsonl"


def _margin(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise DataError(f"--margin {text!r}: give METRIC=VALUE, the value a number of at least 0; metrics: {_METRICS}")
    return name, number


def _baseline(path: Path, methods: tuple[str, ...], layers: tuple[int, ...]) -> Baseline:
    """The chosen cells of a baseline file, or of results that are promoted in memory."""
    from steering.journal import load_rows
    from steering.verdicts.promotion import promote

    if _holds_rows(path):
        rows = load_rows(path)
        try:
            return promote(rows, methods=methods, layers=layers)
        except ResultsError as error:
            raise ResultsError(f"{path}: {error}") from None
    return read_cells(path, methods, layers)


def _changes(output: Path, promoted: Baseline) -> list[str]:
    """What changes relative to the file that is there, which must be a baseline."""
    from steering.verdicts.promotion import changes

    if not output.exists():
        return []
    try:
        before = read_baseline(output)
    except SchemaError as error:
        return [f"replaced: {error}"]
    except ResultsError as error:
        raise ResultsError(f"{error}. Promotion replaces baselines only: choose another file.") from None
    return changes(before, promoted) or ["nothing changed"]
