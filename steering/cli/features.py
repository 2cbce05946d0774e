"""`steering features`: what SAE features mean, which of them a concept moves, and which are like a vector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    Toward,
    load_model,
    parse_parameters,
)
from steering.cli.printing import print_table
from steering.concept_files import load_concept
from steering.concepts import Concept
from steering.errors import DataError, VectorError
from steering.neutral import load_neutral
from steering.tables.wording import visible

if TYPE_CHECKING:
    from steering.activations import ContrastActivations
    from steering.models.language_model import LanguageModel
    from steering.sae.autoencoder import SparseAutoencoder
    from steering.sae.features import Descriptions
    from steering.vectors import SteeringVector

app = typer.Typer(
    help="What SAE features mean, and what they have to do with a concept.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Layer = Annotated[int, typer.Option(help="Block whose output the SAE reads, from 0.")]
_LENS_TOKENS = 10
_AROUND = 12
# Of a document, the first ones are read.
_DOCUMENT_TOKENS = 256
# Of the numbers in tables and JSON.
_DECIMALS = {"activation": 2, "weight": 4, "product": 3}


@app.command()
def search(
    keywords: Annotated[list[str], typer.Argument(help="Whole words to find in the descriptions.")],
    layer: Layer,
    saes: Saes = "embedded",
    descriptions: DescriptionsFile = "",
    as_json: AsJson = False,
) -> None:
    """Find features by words in their descriptions."""
    _, known = _open_sae(saes, descriptions, layer, "cpu")
    _print([{"feature": feature, "description": known[feature]} for feature in known.search(keywords)], as_json)


@app.command()
def show(
    feature: Annotated[int, typer.Argument(help="Number of the feature.")],
    layer: Layer,
    model: Model = "embedded",
    saes: Saes = "embedded",
    descriptions: DescriptionsFile = "",
    text: Annotated[str, typer.Option(help="Neutral set or JSON Lines file to look for activations in.")] = "embedded",
    documents: Annotated[int, typer.Option(help="How many of its documents to read.")] = 256,
    contexts: Annotated[int, typer.Option(min=1, help="How many contexts to show.")] = 8,
    as_json: AsJson = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Show one feature: its description, the tokens that it promotes and demotes, and where it fires most in a text."""
    from steering.models.tokens import text_ids
    from steering.sae.feature_activity import read_activity
    from steering.sae.features import check_features, logit_lens

    read = load_neutral(text, documents).documents
    sae, known = _open_sae(saes, descriptions, layer, device)
    check_features([feature], sae)  # before the model, so that a mistake costs no time
    opened = _Opened.load(sae, known, model, dtype, device)
    tokenizer = opened.model.tokenizer
    rows = [text_ids(tokenizer, document)[:_DOCUMENT_TOKENS] for document in read]
    activity = read_activity(opened.model, [sae], rows, contexts, progress.for_terminal())[layer]
    effect = next(logit_lens(opened.model, sae.decoder[feature : feature + 1], _LENS_TOKENS))
    found = [
        {"activation": value, "context": _context(tokenizer, rows[row], position)}
        for row, position, value in activity.places(feature)
    ]
    entry = {
        "feature": feature,
        "layer": layer,
        "hook_name": sae.hook_name,
        "description": known[feature],
        "promotes": list(effect.promoted),
        "demotes": list(effect.demoted),
        "frequency": activity.frequency(feature),
        "contexts": _rounded(found),
    }
    if as_json:
        typer.echo(json.dumps(entry, ensure_ascii=False, indent=1))
        return
    for key in ("feature", "layer", "hook_name", "description"):
        typer.echo(f"{key + ':':<13}{visible(str(entry[key]))}")
    for key in ("promotes", "demotes"):
        typer.echo(f"{key + ':':<13}{' '.join(map(repr, entry[key]))}")  # type: ignore[call-overload]
    typer.echo(f"{'fires on:':<13}{entry['frequency']:.3%} of {activity.tokens} tokens of {text}")
    _print(found, as_json=False)


@app.command()
def changed(
    layer: Layer,
    method: Annotated[str, typer.Option(help="feature_delta, or hand_crafted with the concept's keywords.")] = (
        "feature_delta"
    ),
    parameters: Parameters = "{}",
    top: Annotated[int, typer.Option(min=1, help="How many features to show.")] = 20,
    concept: ConceptName = "gender",
    toward: Toward = "positive",
    model: Model = "embedded",
    saes: Saes = "embedded",
    descriptions: DescriptionsFile = "",
    as_json: AsJson = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """List the features that a concept changes most, with their weights (the paper's Tables II and III)."""
    from steering.methods import SumOfFeatures, create_method
    from steering.sae.features import heaviest_features

    chosen = create_method(method, parse_parameters(parameters))
    if not isinstance(chosen, SumOfFeatures):
        raise DataError(f"method {method!r} decodes no features; choose feature_delta or hand_crafted")
    contrasted = load_concept(concept, toward)
    opened = _Opened.load(*_open_sae(saes, descriptions, layer, device), model, dtype, device)
    weights = chosen.weights(opened.capture(contrasted), layer)
    _print([asdict(entry) for entry in heaviest_features(weights, opened.descriptions, top)], as_json)


@app.command()
def similar(
    context: typer.Context,
    layer: Layer,
    vector: Annotated[
        Path | None, typer.Option(help="A vector's safetensors file; by default the mean difference of the concept.")
    ] = None,
    concept: ConceptName = "gender",
    toward: Toward = "positive",
    model: Model = "embedded",
    saes: Saes = "embedded",
    descriptions: DescriptionsFile = "",
    as_json: AsJson = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """List the 0.1 % of features most and least like a vector, by the product W_dec @ v (the paper's Fig. 7).

    With --vector, no model is loaded.
    """
    from steering.methods import construct
    from steering.sae.similarity import similarity

    if vector:
        _refuse_beside_vector(context, "concept", "toward")
        direction = _vector_of(vector, layer)
        sae, known = _open_sae(saes, descriptions, layer, device)
        if other := sae.other_model(direction.model):
            typer.echo(visible(f"note: {vector} is of model {direction.model}, and the SAE of {other}"), err=True)
    else:
        contrasted = load_concept(concept, toward)  # before the model, so that a mistake costs no time
        sae, known = _open_sae(saes, descriptions, layer, device)
        opened = _Opened.load(sae, known, model, dtype, device)
        direction = construct("mean_difference", opened.capture(contrasted), layer)
    found = similarity(sae, direction)
    entries = [
        {"feature": feature, "product": float(found.products[feature]), "description": known[feature]}
        for feature in (*found.top, *reversed(found.bottom))
    ]
    _print(entries, as_json)


def _refuse_beside_vector(context: typer.Context, *names: str) -> None:
    """Refuse options that say what a vector is to be constructed from."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise DataError(f"--{name} says what a vector is constructed from, and --vector gives one: choose")


def _vector_of(path: Path, layer: int) -> SteeringVector:
    from steering.vectors import load_vector

    vector = load_vector(path)
    if vector.layer != layer:
        raise VectorError(f"{path}: its layer is {vector.layer}, and --layer is {layer}; they must be the same")
    return vector


def _open_sae(saes: str, descriptions: str, layer: int, device: str) -> tuple[SparseAutoencoder, Descriptions]:
    """The SAE of a layer, with what its features are about."""
    from steering.models.loading import choose_device
    from steering.sae.library import open_library

    library = open_library(saes, descriptions)
    sae = library.load(layer, choose_device(device))
    return sae, library.describe(sae)


@dataclass(frozen=True, eq=False)
class _Opened:
    """A model with the SAE of one layer."""

    model: LanguageModel
    sae: SparseAutoencoder
    descriptions: Descriptions

    @classmethod
    def load(cls, sae: SparseAutoencoder, descriptions: Descriptions, model: str, dtype: str, device: str) -> _Opened:
        """Load the model, which takes long, beside an SAE that is there."""
        loaded = load_model(model, dtype, device)
        sae.check_fits(loaded.name, loaded.d_model, loaded.layer_count)
        return cls(loaded, sae, descriptions)

    def capture(self, concept: Concept) -> ContrastActivations:
        from steering.activation_cache import ActivationCache
        from steering.activations import FeatureReader, capture_pairs

        reader = FeatureReader([(self.sae, self.descriptions)], concept.feature_keywords)
        reporter, cache = progress.for_terminal(), ActivationCache()
        pairs, layers = concept.generation, [self.sae.layer]
        return capture_pairs(self.model, pairs, layers, concept.name, reader=reader, progress=reporter, cache=cache)


def _context(tokenizer: Any, row: Sequence[int], position: int) -> str:
    """The token in its context, marked."""
    before = tokenizer.decode(row[max(0, position - _AROUND) : position])
    after = tokenizer.decode(row[position + 1 : position + 1 + _AROUND // 2])
    return f"{before}«{tokenizer.decode([row[position]])}»{after}".replace("\n", " ")


def _print(entries: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_rounded(entries), ensure_ascii=False, indent=1))
    elif entries:
        print_table([list(entries[0]), *([_cell(*item) for item in entry.items()] for entry in entries)])


def _rounded(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: round(value, _DECIMALS[key]) if key in _DECIMALS else value for key, value in entry.items()}
        for entry in entries
    ]


def _cell(key: str, value: Any) -> str:
    return f"{value:.{_DECIMALS[key]}f}" if key in _DECIMALS else str(value)
