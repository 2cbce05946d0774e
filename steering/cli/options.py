"""Options that several commands share, and reading what they were given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from steering import progress
from steering.concepts import Side
from steering.errors import DataError
from steering.files import read_text, read_toml
from steering.positions import Positions

if TYPE_CHECKING:
    from steering.models.language_model import LanguageModel
    from steering.models.loading import DtypeName

Model = Annotated[str, typer.Option(help="'embedded', a directory, a GGUF file or a hub id.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str, typer.Option(help="For instance cpu, cuda or mps.")]
Saes = Annotated[str, typer.Option(help="'embedded', a directory in SAELens's format, or a SAELens release.")]
DescriptionsFile = Annotated[
    str,
    typer.Option(metavar="FILE", help="JSON Lines file that describes the features; Neuronpedia's format works, too."),
]
ConceptName = Annotated[str, typer.Option(help="Built-in concept or a directory with concept.toml.")]
Toward = Annotated[Side, typer.Option(help="Side of the concept to steer towards.")]
SteeredPositions = Annotated[
    Positions, typer.Option(help="What to steer: the prompt's positions, or also those of what follows it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Parameters = Annotated[str, typer.Option(help="The method's parameters: a JSON object, or a .json or .toml file.")]
Methods = Annotated[str, typer.Option(help="Only these methods, comma-separated.")]
Metrics = Annotated[str, typer.Option(help="Only these metrics, comma-separated.")]
Results = Annotated[Path, typer.Argument(help="A results directory or its results.jsonl.")]
Layers = Annotated[str, typer.Option(help="Only these blocks, for instance 8,20 or 8-12.")]
RunName = Annotated[str, typer.Option(help="Only this run: its name, or 'last'.")]

_MOST_BLOCKS = 10_000


def parse_names(text: str, option: str) -> tuple[str, ...]:
    """Names with commas between them; none at all where there is no text.

    Raises:
        DataError: A name is missing beside a comma.
    """
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if "" in names:
        raise DataError(f"{option} {text!r}: give names with commas between them")
    return names


def parse_layers(text: str) -> tuple[int, ...]:
    """Block numbers, and ranges that include both ends, with commas between them; lowest first.

    Raises:
        DataError: Something else was given.
    """
    try:
        layers = tuple(sorted({layer for part in text.split(",") for layer in _span(part.strip())}))
    except ValueError:
        raise DataError(f"--layers {text!r}: give block numbers with commas, for instance 8,20 or 8-12") from None
    if layers[0] < 0:
        raise DataError(f"--layers {text!r}: blocks are counted from 0")
    return layers


def _span(part: str) -> Sequence[int]:
    """The numbers that "8", or "8-12", stands for."""
    first, dash, last = part.partition("-")
    if not first or not dash:
        return [int(part)]
    count = int(last) - int(first) + 1
    if count < 1:
        raise DataError(f"--layers {part!r}: the first block of a range is the lower one")
    if count > _MOST_BLOCKS:
        raise DataError(f"--layers {part!r}: {count} blocks, more than any model has")
    return range(int(first), int(last) + 1)


def parse_layer_filter(text: str) -> tuple[int, ...]:
    """The blocks that a filter names; none at all, which lets all pass, where there is no text.

    Raises:
        DataError: As `parse_layers`.
    """
    return parse_layers(text) if text else ()


def parse_parameters(text: str) -> dict[str, Any]:
    """Parameters of a method, as a JSON object or from a .json or .toml file.

    Raises:
        DataError: It is neither.
    """
    try:
        if text.endswith(".toml"):
            parsed = json.loads(json.dumps(read_toml(Path(text))))
        else:
            parsed = json.loads(read_text(Path(text)) if text.endswith(".json") else text)
    except TypeError as error:  # TOML has dates, JSON and methods have none
        raise DataError(f"--parameters {text!r}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"--parameters {text!r}: not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise DataError(f"--parameters {text!r}: a JSON object is required")
    return parsed


def require_text(option: str, text: str) -> None:
    """Refuse a text that holds bytes of another encoding: a file name may, what a model reads or is called may not.

    Raises:
        DataError: The message shows it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{option} {text!a}: not in the encoding of this terminal") from None


def load_model(reference: str, dtype: str, device: str) -> LanguageModel:
    """Load a model, saying so."""
    from steering.models.language_model import LanguageModel
    from steering.models.loading import choose_device, choose_dtype

    choose_dtype(dtype, choose_device(device))  # a mistake is told before the model is said to load
    progress.for_log().note(f"loading model {reference} …")
    return LanguageModel.load(reference, cast("DtypeName", dtype), device)
