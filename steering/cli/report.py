"""`steering report`: what was measured, as one HTML file to read and to pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steering.cli.options import Results, parse_layer_filter, parse_names
from steering.errors import DataError, ResultsError
from steering.files import make_directory, write_file

_SUFFIXES = (".html", ".htm")


def report(
    results: Results,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The report; an existing one is replaced.")] = Path(
        "report.html"
    ),
    profile: Annotated[
        str,
        typer.Option(
            help="The run's profile: a name or a TOML file. Gives the level of tests, neutral bound and keywords."
        ),
    ] = "",
    gate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Baseline to compare with: verdicts are shown, and the exit status stays 0."),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="With --gate: only these methods of the baseline, comma-separated.")
    ] = "",
    layers: Annotated[str, typer.Option(help="With --gate: only these of its blocks, for instance 8,20 or 8-12.")] = "",
) -> None:
    """Write a report: one HTML file that needs no network, with verdict, tables, figures, completions and limits."""
    from steering.journal import load_rows, require_other_file
    from steering.profile_files import load_profile
    from steering.profiles import Profile
    from steering.report.figures import figures_of
    from steering.report.html import render
    from steering.verdicts.gate import compare
    from steering.verdicts.selection import chosen_rows, read_cells

    names, blocks = parse_names(methods, "--methods"), parse_layer_filter(layers)
    if (names or blocks) and gate is None:
        raise DataError("--methods and --layers choose cells of a baseline: give it with --gate")
    require_other_file(output, results)
    if output.is_dir():
        raise DataError(f"--output {output}: a directory; give the file to write")
    if output.suffix and output.suffix.lower() not in _SUFFIXES:
        raise DataError(f"--output {output}: a report is a web page, whose name ends in {' or '.join(_SUFFIXES)}")
    chosen = load_profile(profile) if profile else None
    rows = load_rows(results)
    if not rows:
        raise ResultsError(f"{results}: no results in it yet")
    held = None if gate is None else read_cells(gate, names, blocks)
    compared = None if held is None else compare(held, chosen_rows(rows, names, blocks))
    make_directory(output.parent)  # before the figures are drawn, which takes long
    level = Profile.alpha if chosen is None else chosen.alpha
    page = render(rows, figures_of(rows, level=level), chosen, compared)
    write_file(output, page.encode())
    typer.echo(f"{output}: {len(rows)} values, {len(page.encode()) / 1e6:.1f} MB")
