"""`steering vector`: construct vectors to keep, show them, try them, and hand them to other programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering import progress
from steering.cli.options import (
    AsJson,
    ConceptName,
    DescriptionsFile,
    Device,
    Dtype,
    Model,
    Parameters,
    Saes,
    SteeredPositions,
    Toward,
    load_model,
    parse_layers,
    parse_parameters,
    require_text,
)
from steering.cli.printing import print_table, terminal_width
from steering.cli.vector_exchange import Multiplier, export, import_vector, intervention_of, require_output
from steering.concept_files import load_concept
from steering.neutral import NeutralSet, load_neutral
from steering.positions import Positions
from steering.profiles import Profile
from steering.tables.wording import visible

if TYPE_CHECKING:
    from steering.vectors import SteeringVector

app = typer.Typer(
    help="Construct steering vectors to keep, try them, and use them elsewhere.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command("import")(import_vector)
app.command()(export)

_SUFFIX = ".safetensors"


VectorFile = Annotated[Path, typer.Argument(metavar="FILE", help="A vector's safetensors file.")]


@app.command()
def build(
    method: Annotated[str, typer.Option(help="Construction method; `steering list` names them.")],
    layers: Annotated[str, typer.Option("--layer", "--layers", help="Block, or several, for instance 8,20 or 8-12.")],
    output: Annotated[
        Path, typer.Option(help="The .safetensors file to write; for several layers, NAME-layer8.safetensors etc.")
    ],
    concept: ConceptName = "gender",
    toward: Toward = "positive",
    model: Model = "embedded",
    parameters: Parameters = "{}",
    multiplier: Annotated[float | None, typer.Option(help="Dose to recommend, written into the file.")] = None,
    saes: Saes = "embedded",
    descriptions: DescriptionsFile = "",
    neutral: Annotated[str, typer.Option(help="Neutral documents, for a method that optimises losses.")] = "embedded",
    steered_positions: Annotated[
        Positions, typer.Option(help="What a method that optimises losses steers.")
    ] = "prompt",
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Construct a vector at each of the layers from a concept's pairs, and write it with its provenance."""
    from steering.activation_cache import ActivationCache
    from steering.methods import needs_losses, needs_sae
    from steering.models.checks import check_layers
    from steering.models.loading import layer_count
    from steering.sae.library import open_library
    from steering.vector_building import Recipe, build_vectors

    chosen = parse_layers(layers)
    targets = _targets(output, chosen)
    library = open_library(saes, descriptions) if needs_sae(method) else None
    documents = _training_documents(neutral) if needs_losses(method) else None
    recipe = Recipe(method, chosen, parse_parameters(parameters), library, multiplier, documents, steered_positions)
    contrasted = load_concept(concept, toward)
    check_layers(chosen, layer_count(model), model)
    loaded = load_model(model, dtype, device)
    vectors = build_vectors(loaded, contrasted, recipe, progress.for_terminal(), ActivationCache())
    for vector, target in zip(vectors, targets, strict=True):
        vector.save(target)
        typer.echo(f"{target}: {vector.method} at layer {vector.layer}, norm {vector.norm:.3g}")


def _training_documents(neutral: str) -> NeutralSet:
    """Those of a profile's development split, where none says otherwise: a test measures others."""
    return load_neutral(neutral, Profile.development_documents, skip=Profile.neutral_documents)


@app.command()
def show(vector: VectorFile, as_json: AsJson = False) -> None:
    """Show where a vector comes from, how long it is, and the heaviest features that it is a sum of."""
    from steering.vectors import load_vector

    found = load_vector(vector)
    entry = _described(found)
    features = [asdict(feature) for feature in found.features]
    if as_json:
        typer.echo(json.dumps({**entry, "features": features}, ensure_ascii=False, indent=1))
        return
    for key, value in entry.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if key == "recommended_multiplier":
            text = f"{value:g}"
        typer.echo(f"{key.replace('_', ' ') + ':':<24}{visible(text)}")
    if features:
        rows = [[str(feature.feature), f"{feature.weight:.4f}", feature.description] for feature in found.features]
        print_table([["feature", "weight", "description"], *rows])


@app.command()
def apply(
    vector: VectorFile,
    prompt: Annotated[str, typer.Argument(help="Text to complete.")],
    multiplier: Multiplier = None,
    steered_positions: SteeredPositions = "prompt",
    chat: Annotated[bool, typer.Option("--chat", help="Give the prompt to a chat model, as a user's message.")] = False,
    samples: Annotated[int, typer.Option(min=1, help="How many completions to sample.")] = 3,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each, at most.")] = Profile.new_tokens,
    greedy: Annotated[bool, typer.Option("--greedy", help="Show only the most probable completion.")] = False,
    top_p: Annotated[float, typer.Option(min=1e-6, max=1, help="Nucleus to sample from.")] = Profile.top_p,
    temperature: Annotated[float, typer.Option(min=1e-6, help="Of sampling.")] = Profile.temperature,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling.")] = Profile.seed,
    model: Model = "embedded",
    as_json: AsJson = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Complete a prompt without a vector and with it, side by side, from the same random numbers."""
    from steering.models.checks import check_interventions
    from steering.models.completions import complete
    from steering.models.sampling import Greedy, NucleusSampler, Sampler, uniform_streams
    from steering.models.tokens import tokenize_message, tokenize_prompt
    from steering.sweeps.stored_vectors import model_difference

    require_text("PROMPT", prompt)
    steered = intervention_of(vector, multiplier, steered_positions)
    loaded = load_model(model, dtype, device)
    check_interventions([steered], loaded.layer_count, loaded.d_model, loaded.name)
    if other := visible(model_difference(steered.vector, loaded)):
        typer.echo(f"note: {vector}: {other}", err=True)
    ids = (tokenize_message if chat else tokenize_prompt)(loaded.tokenizer, prompt)
    rows = 1 if greedy else samples
    sampler: Sampler = Greedy()
    if not greedy:
        sampler = NucleusSampler(uniform_streams(seed, rows, new_tokens), top_p, temperature)
    sides = complete(loaded, [ids] * rows, [None, steered], sampler, new_tokens, progress=progress.for_terminal())
    pairs = [(before.completion, after.completion) for before, after in zip(*sides, strict=True)]
    if as_json:
        entry = {
            "prompt": prompt,
            "multiplier": steered.multiplier,
            "steered_positions": steered.positions,
            "completions": [dict(zip(("unsteered", "steered"), pair, strict=True)) for pair in pairs],
        }
        typer.echo(json.dumps(entry, ensure_ascii=False, indent=1))
        return
    where = "" if steered.positions == "prompt" else ", at all positions"
    heading = f"{steered.vector.method}, layer {steered.vector.layer}, × {steered.multiplier:g}{where}"
    _print_pairs(prompt, heading, pairs)


def _targets(output: Path, layers: Sequence[int]) -> list[Path]:
    """Files for vectors of some layers: the one that was named, or one for each layer beside it."""
    targets = [output]
    if len(layers) > 1:
        targets = [output.with_name(f"{output.stem}-layer{layer}{_SUFFIX}") for layer in layers]
    for target in (output, *targets):
        require_output(target, _SUFFIX)
    return targets


def _described(vector: SteeringVector) -> dict[str, Any]:
    """Provenance; what is not known is left out."""
    named = {"concept": vector.concept, "model": vector.model}
    known = {key: value for key, value in asdict(vector.origin).items() if value}
    dose = vector.recommended_multiplier
    return {
        "method": vector.method,
        "layer": vector.layer,
        "d_model": len(vector.direction),
        "norm": round(vector.norm, 4),
        **({} if dose is None else {"recommended_multiplier": dose, "added_norm": round(abs(dose) * vector.norm, 4)}),
        **{key: value for key, value in named.items() if value},
        "parameters": dict(vector.parameters),
        "vector_hash": vector.hash,
        **known,
    }


def _print_pairs(prompt: str, steered: str, pairs: Sequence[tuple[str, str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = terminal_width()
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, expand=True, pad_edge=False)
    table.add_column("unsteered", ratio=1, overflow="fold")
    table.add_column(Text(visible(steered)), ratio=1, overflow="fold")
    for texts in pairs:
        table.add_row(*(Text(_lines(text)) for text in texts))
    console = Console(file=sys.stdout, width=width, highlight=False)
    console.print(Text(f"{_lines(prompt)} …"))
    console.print(table)


def _lines(text: str) -> str:
    """Text whose lines stay lines, and that moves no terminal's cursor."""
    return "\n".join(visible(line) for line in text.strip().splitlines())
