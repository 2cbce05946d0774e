"""`steering sae`: train, evaluate and describe sparse autoencoders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from steering import progress
from steering.cli.options import AsJson, Device, Dtype, Model, load_model, parse_layers
from steering.cli.printing import print_table
from steering.errors import DataError, SaeError
from steering.files import make_directory
from steering.sae.recipe import TrainingRecipe

app = typer.Typer(
    help="Train, evaluate and describe sparse autoencoders.", no_args_is_help=True, rich_markup_mode="markdown"
)

_RANKS = 24

Corpus = Annotated[
    list[str],
    typer.Option(
        help="Files, directories of them, or a hub data set; repeatable. In .txt, .txt.xz and .txt.gz a line <|doc|> "
        "divides documents; in .jsonl each object has a text."
    ),
]
# The first token of a row, an attention sink, is left out.
ContextTokens = Annotated[int, typer.Option(min=2, help="Length of the rows that the model reads.")]
Saes = Annotated[str, typer.Argument(help="'embedded', a directory in SAELens's format, or a SAELens release.")]


@app.command()
def train(
    layers: Annotated[str, typer.Option(help="Blocks to train on, for instance 8,20 or 8-12.")],
    corpus: Corpus,
    output: Annotated[Path, typer.Option(help="Where the SAEs go: one directory per layer, in SAELens's format.")],
    work: Annotated[Path, typer.Option(help="Where activations and checkpoints are kept; a killed run resumes there.")],
    model: Model = "embedded",
    tokens: Annotated[int, typer.Option(min=1, help="Training tokens.")] = TrainingRecipe.tokens,
    context_tokens: ContextTokens = TrainingRecipe.context_tokens,
    expansion: Annotated[int, typer.Option(help="d_sae / d_model.")] = TrainingRecipe.expansion,
    k: Annotated[int, typer.Option(help="Active features on a token.")] = TrainingRecipe.k,
    epochs: Annotated[int, typer.Option(help="How often each token is seen.")] = TrainingRecipe.epochs,
    batch_size: Annotated[int, typer.Option(help="Tokens of a step.")] = TrainingRecipe.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = TrainingRecipe.learning_rate,
    dead_after_tokens: Annotated[
        int, typer.Option(help="Features silent for this many tokens are revived.")
    ] = TrainingRecipe.dead_after_tokens,
    seed: Annotated[int, typer.Option(help="Decides rows, order and initial weights.")] = TrainingRecipe.seed,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Train TopK SAEs with SAELens's trainer on the outputs of some blocks, read in one pass.

    Activations take 2 × d_model bytes per token and layer in the work directory (in 16 bits). The last tenth of each
    source is left for `steering sae evaluate`.
    """
    from steering.models.checks import check_layers
    from steering.models.loading import choose_device, choose_dtype, layer_count
    from steering.sae.corpus import read_corpus, token_rows
    from steering.sae.training import TrainingRun, check_target, only_training

    recipe = TrainingRecipe(
        tokens=tokens,
        context_tokens=context_tokens,
        expansion=expansion,
        k=k,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        dead_after_tokens=dead_after_tokens,
        seed=seed,
    )
    chosen = parse_layers(layers)
    choose_dtype(dtype, choose_device(device))
    check_layers(chosen, layer_count(model), model)
    if output.resolve() == work.resolve():
        raise DataError(f"--work {work}: that is --output, too, and checkpoints would be taken for SAEs; name another")
    targets = {layer: output / f"layer{layer}" for layer in chosen}
    for target in targets.values():
        check_target(target)
    reporter = progress.for_log()
    reporter.note("reading the corpus …")
    sources = read_corpus(corpus)
    make_directory(output)
    with only_training(work):
        language_model = load_model(model, dtype, device)
        rows = token_rows(language_model.tokenizer, sources, context_tokens)
        run = TrainingRun(language_model, sources, rows, chosen, recipe, work, reporter)
        store = run.capture()
        for layer, target in targets.items():
            run.train(store, layer, target)
            typer.echo(target)


@app.command()
def evaluate(
    saes: Saes,
    corpus: Corpus,
    model: Model = "embedded",
    tokens: Annotated[int, typer.Option(min=1, help="Held-out tokens to reconstruct.")] = 200_000,
    loss_tokens: Annotated[int, typer.Option(min=1, help="Held-out tokens to measure losses on.")] = 25_000,
    context_tokens: ContextTokens = TrainingRecipe.context_tokens,
    as_json: AsJson = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Measure SAEs on the held-out tenth of a corpus: variance explained, L0, silent features, loss recovered."""
    from steering.models.tokens import TokenizedText
    from steering.sae.corpus import read_corpus, token_rows
    from steering.sae.library import open_library
    from steering.sae.quality import held_out_quality

    library, sources = open_library(saes), read_corpus(corpus)
    language_model = load_model(model, dtype, device)
    rows = token_rows(language_model.tokenizer, sources, context_tokens)
    held_out = rows.sample_held_out(tokens)
    texts = [TokenizedText(tuple(row), 1) for row in rows.sample_held_out(loss_tokens)]
    loaded = [library.load(layer, language_model.device) for layer in library.layers]
    qualities = held_out_quality(language_model, loaded, held_out, texts, progress.for_log())
    found = [asdict(quality) for quality in qualities]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    lines = [[_shown(value) for value in entry.values()] for entry in found]
    print_table([list(found[0]), *lines])


def _shown(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


@app.command()
def describe(
    saes: Annotated[str, typer.Argument(help="A directory in SAELens's format, or one that holds such directories.")],
    corpus: Corpus,
    model: Model = "embedded",
    tokens: Annotated[int, typer.Option(min=1, help="Held-out tokens to look for activations in.")] = 500_000,
    context_tokens: ContextTokens = TrainingRecipe.context_tokens,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Describe each feature by the tokens it fires on and promotes, in a file next to the SAE; no text is kept."""
    from steering.sae.corpus import read_corpus, token_rows
    from steering.sae.description import describe_features
    from steering.sae.feature_activity import read_activity
    from steering.sae.features import DESCRIPTIONS_FILE, write_descriptions
    from steering.sae.library import EMBEDDED, open_library

    if saes == EMBEDDED:
        raise SaeError(
            "the embedded SAEs have descriptions, which are the package's; copy the directories to describe them anew"
        )
    library = open_library(saes)
    if library.release:
        raise SaeError(
            f"SAE release {saes!r}: descriptions are written beside an SAE in a directory; load it with SAELens, "
            "save it (`sae.save_model`), and give the directory"
        )
    sources = read_corpus(corpus)
    language_model = load_model(model, dtype, device)
    rows = token_rows(language_model.tokenizer, sources, context_tokens).sample_held_out(tokens)
    loaded = [library.load(layer, language_model.device) for layer in library.layers]
    activity = read_activity(language_model, loaded, rows, _RANKS, progress.for_log())
    for sae in loaded:
        path = library.directories[sae.layer] / DESCRIPTIONS_FILE
        records = list(describe_features(language_model, sae, activity[sae.layer], rows))
        write_descriptions(path, records)
        typer.echo(f"{path}: {len(records)} features, {activity[sae.layer].silent_share:.1%} never fired")
