"""`steering reproduce`: the paper's figures and tables from one command."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering import progress
from steering.cli.options import Device, Dtype, load_model, parse_layers
from steering.concepts import Side
from steering.errors import DataError, ResultsError
from steering.files import write_file
from steering.journal import Journal, load_rows
from steering.positions import Positions
from steering.profile_files import load_profile
from steering.profiles import Profile
from steering.results import Row, new_run_name
from steering.settings import Setting

if TYPE_CHECKING:
    from steering.sweeps.reproduction import DescribedSimilarity


def reproduce(
    profile: Annotated[str, typer.Option(help="Built-in profile or TOML file.")] = "embedded",
    output: Annotated[Path, typer.Option(metavar="DIR", help="Results, figures, tables and report go here.")] = Path(
        "reproduction"
    ),
    model: Annotated[str | None, typer.Option(help="Instead of the profile's: directory, GGUF file or hub id.")] = None,
    concept: Annotated[str | None, typer.Option(help="Instead of the profile's: a name or a directory.")] = None,
    toward: Annotated[Side | None, typer.Option(help="Side of the concept to steer towards.")] = None,
    neutral: Annotated[str | None, typer.Option(help="Instead of the profile's: a name or a JSON Lines file.")] = None,
    saes: Annotated[str | None, typer.Option(help="Instead of the profile's: directory or SAELens release.")] = None,
    descriptions: Annotated[str | None, typer.Option(help="Instead of the profile's: of the SAEs' features.")] = None,
    layers: Annotated[str | None, typer.Option(metavar="N,N", help="These layers only.")] = None,
    rollouts: Annotated[int | None, typer.Option(help="Sampled completions of each configuration.")] = None,
    multiplier: Annotated[float | None, typer.Option(help="Dose of every method, instead of the profile's.")] = None,
    optimized: Annotated[int, typer.Option(min=0, help="Vectors to look for by gradient descent; 0 for none.")] = 6,
    documents: Annotated[int, typer.Option(help="Neutral documents, for each layer and dose.")] = 48,
    steered_positions: Annotated[
        Positions | None,
        typer.Option(help="Instead of the profile's: those of the prompt, or also of what follows it."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling, instead of the profile's.")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Measure what the paper's figures and tables show, draw them, and write the report.

    What the output directory already holds is not measured again: an interrupted run resumes where it stopped.
    """
    from steering.sweeps.plans import without_foreign_saes
    from steering.tables.failures import failed_cells
    from steering.tables.pareto import pareto_statement
    from steering.tables.wording import counted

    changes: dict[str, Any] = {
        key: value
        for key, value in {
            "model": model,
            "concept": concept,
            "toward": toward,
            "neutral": neutral,
            "saes": saes,
            "descriptions": descriptions,
            "rollouts": rollouts,
            "steered_positions": steered_positions,
            "seed": seed,
            "layers": None if layers is None else parse_layers(layers),
        }.items()
        if value is not None
    }
    declared = load_profile(profile)
    chosen, note = without_foreign_saes(dataclasses.replace(declared, neutral_documents=documents, **changes), declared)
    if note:
        typer.echo(note, err=True)
    chosen = _at_dose(chosen, multiplier)
    measured = _measure(chosen, output, dtype, device, optimized)
    for path in _write(measured, output):
        typer.echo(path)
    if failed := len(failed_cells(measured.own)):
        message = f"{counted(failed, 'cell')} could not be measured, in part or at all: see 'Not measured' in tables.md"
        typer.echo(message, err=True)
    if statement := pareto_statement(measured.rows):
        typer.echo(statement)


def _at_dose(profile: Profile, multiplier: float | None) -> Profile:
    """A profile whose figures by dose can be drawn: they show parts of its multipliers."""
    from steering.sweeps.plans import at_multiplier

    if multiplier is not None:
        return at_multiplier(dataclasses.replace(profile, neutral_budget=None), multiplier)
    if profile.neutral_budget is not None:
        raise DataError(
            f"profile {profile.name!r}: neutral_budget has a dose looked for at each layer, and the figures show parts "
            "of one multiplier: give --multiplier, for instance a dose that `pytest bench` found"
        )
    return profile


@dataclass(frozen=True)
class _Measured:
    """What there is to draw and to write.

    Attributes:
        setting: What was measured.
        rows: All that the output directory holds.
        own: Those of the present setting on the present model.
        similarities: Of vectors with features.
        layer: Of the examples.
    """

    setting: Setting
    rows: Sequence[Row]
    own: Sequence[Row]
    similarities: Sequence[DescribedSimilarity]
    layer: int


def _measure(profile: Profile, output: Path, dtype: Dtype, device: Device, optimized: int) -> _Measured:
    """Measure what all figures need; what can be found wrong without the model is found before it is loaded."""
    from steering.activation_cache import ActivationCache
    from steering.models.checks import check_layers
    from steering.models.loading import layer_count
    from steering.sae.library import layers_with_sae, open_library
    from steering.sweeps.plans import check_plans
    from steering.sweeps.records import blank_row
    from steering.sweeps.reproduction import Reproduction, example_layer, figure_cells
    from steering.tables.configurations import shared

    check_plans(profile)
    setting = Setting.load(profile)
    optimized = _with_documents(setting, optimized)
    blocks = layer_count(profile.model)
    layers = list(range(blocks)) if profile.layers is None else list(profile.layers)
    check_layers(layers, blocks, profile.model)
    library = open_library(profile.saes, profile.descriptions) if profile.saes else None
    with_sae = layers_with_sae(library, layers)
    planned = figure_cells(profile, layers, with_sae, optimized=optimized)
    layer = example_layer(profile, layers, with_sae)
    journal, reporter = Journal(output), progress.for_log()
    loaded, run = load_model(profile.model, dtype, device), new_run_name()
    reproduction = Reproduction(
        setting,
        loaded,
        journal,
        saes=library,
        run=run,
        progress=reporter,
        cache=ActivationCache(),
    )
    for figures in planned:
        reproduction.measure(figures)
    reproduction.measure_saes(with_sae)
    rows, here = load_rows(output), shared(blank_row(setting, loaded, run))
    own = [row for row in rows if shared(row) == here]
    return _Measured(setting, rows, own, reproduction.similarities(with_sae), layer)


def _with_documents(setting: Setting, optimized: int) -> int:
    """How many vectors are optimised: none where no neutral document is left to train them on."""
    if not optimized:
        return 0
    try:
        setting.load_training_documents()
    except DataError as error:
        typer.echo(f"No vector is optimised: {error}.", err=True)
        return 0
    return optimized


def _write(measured: _Measured, output: Path) -> list[Path]:
    """Draw and write everything; the paths, the report's first."""
    from steering.report.figures import figures_of, similarity_figure, write
    from steering.report.html import render
    from steering.report.paper import PAPER
    from steering.sweeps.plans import mean_plan
    from steering.tables.completions import word_table
    from steering.tables.export import to_markdown
    from steering.tables.markdown import markdown_table

    rows, setting = measured.rows, measured.setting
    if not rows:
        raise ResultsError(f"{output}: nothing was measured")
    figures = figures_of(rows, PAPER, setting.profile.alpha)
    figures += [similarity_figure(each.found, each.descriptions) for each in measured.similarities]
    report, tables = output / "report.html", output / "tables.md"
    write_file(report, render(rows, figures, setting.profile).encode())
    mean, layer = mean_plan(setting.profile), measured.layer
    words = word_table(measured.own, setting.concept.one_word_prompts, mean.name, layer, mean.multiplier)
    heading = f"### Words before and after steering by {mean.name} × {mean.multiplier:g} at layer {layer}"
    table_one = f"{heading}\n\n{markdown_table(words)}\n"
    write_file(tables, (table_one + to_markdown(rows)).encode())
    return [report, tables, *(path for figure in figures for path in write(figure, output / "figures"))]
