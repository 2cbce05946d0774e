"""`steering concept`: have a concept's pairs written, check them, and see which concepts there are."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from steering import progress
from steering.cli.options import Device, Dtype, load_model, parse_layers, require_text
from steering.cli.printing import print_table, terminal_width
from steering.concept_files import builtin_concepts, concept_directory, load_concept
from steering.concept_writing.briefs import ConceptBrief, concept_brief
from steering.concept_writing.endpoints import KEY_VARIABLE, chat_endpoint
from steering.concepts import CONCEPT_NAME, NAME_RULE, Concept, ContrastPair, Side
from steering.errors import DataError
from steering.files import read_toml
from steering.tables.wording import counted, visible

if TYPE_CHECKING:
    from steering.activations import ContrastActivations

app = typer.Typer(help="Write, check and show concepts.", no_args_is_help=True, rich_markup_mode="markdown")

# What a brief cannot do without, and the option of each key.
_NEEDED = {"description": "--describe", "positive": "--positive", "negative": "--negative"}
_OPENAI = "https://api.openai.com/v1"

Reference = Annotated[str, typer.Argument(metavar="CONCEPT", help="Built-in concept or a directory with concept.toml.")]
Words = Annotated[list[str] | None, typer.Option(help="Success word of that side; repeatable.")]
Prompts = Annotated[list[str] | None, typer.Option(help="As in concept.toml; repeatable.")]


@app.command("generate")
def generate_concept(
    output: Annotated[Path, typer.Option(help="Directory of the new concept; a second start resumes there.")],
    describe: Annotated[str, typer.Option(help="What the contrast is, in a sentence; needed without --brief.")] = "",
    positive: Annotated[
        str, typer.Option(help="What continuations to steer towards are like; needed without --brief.")
    ] = "",
    negative: Annotated[str, typer.Option(help="What the other continuations are like; needed without --brief.")] = "",
    brief: Annotated[Path | None, typer.Option(help="TOML file with all of this; options override it.")] = None,
    name: Annotated[str, typer.Option(help="Name of the concept; by default, the directory's.")] = "",
    licence: Annotated[str, typer.Option(help="SPDX identifier or a sentence.")] = "",
    positive_keyword: Words = None,
    negative_keyword: Words = None,
    rollout_prompt: Prompts = None,
    one_word_prompt: Prompts = None,
    development_prompt: Prompts = None,
    pairs: Annotated[int, typer.Option(help="How many pairs; a seventh of them is for the test.")] = 350,
    stories: Annotated[int, typer.Option(help="How many to ask for at a time.")] = 3,
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible server.")] = _OPENAI,
    model: Annotated[str, typer.Option(help="Name of the chat model there; by default, gpt-4-turbo of OpenAI.")] = "",
    key_variable: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = KEY_VARIABLE,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds without an answer before another attempt.")
    ] = 120.0,
) -> None:
    """Have a chat model write the pairs of a concept, with a prompt that follows the paper's."""
    from steering.concept_writing.chat import ChatClient
    from steering.concept_writing.writing import Order, generate

    given: dict[str, Any] = {
        "description": describe,
        "positive": positive,
        "negative": negative,
        "name": name,
        "licence": licence,
        "rollout_prompts": rollout_prompt,
        "one_word_prompts": one_word_prompt,
        "development_prompts": development_prompt,
        "keywords": _sides(positive_keyword, negative_keyword),
    }
    if not model and endpoint != _OPENAI:
        raise DataError(f"--endpoint {endpoint!r}: give --model, too: the name of the chat model there")
    _require_texts(describe=describe, positive=positive, negative=negative, name=name, licence=licence, model=model)
    _require_texts(positive_keyword=positive_keyword, negative_keyword=negative_keyword, rollout_prompt=rollout_prompt)
    _require_texts(one_word_prompt=one_word_prompt, development_prompt=development_prompt)
    model = model or "gpt-4-turbo"
    order = Order(_brief(brief, given, output), model, output, pairs, stories)
    opened = chat_endpoint(endpoint, model, os.environ, key_variable)
    reporter = progress.for_log()
    try:
        with ChatClient(opened, lambda text: reporter.note(visible(text)), timeout) as client:
            concept, tally = generate(order, client, reporter)
    except KeyboardInterrupt as error:
        typer.echo(f"\n{error}", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{output}: {len(concept.generation)} + {len(concept.test)} pairs from {tally.replies} replies")
    for line in tally.lines():
        typer.echo(f"refused: {line}")
    typer.echo("Read them before you use them, then: steering concept check " + shlex.quote(_as_path(output)))


def _as_path(directory: Path) -> str:
    """A directory as no name of a built-in concept is written."""
    text = str(directory)
    return text if directory.is_absolute() or text.startswith(".") else f"./{text}"


@app.command()
def check(
    concept: Reference,
    model: Annotated[
        str,
        typer.Option(help="Say at which layers of it to try: 'embedded', a directory, a GGUF file or a hub id."),
    ] = "",
    layers: Annotated[str, typer.Option(help="Blocks, for instance 8,20 or 8-12; by default all.")] = "",
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Say everything that is wrong with a concept; exit status 1 if it cannot be used."""
    from steering.concept_checks.checks import check_concept_files
    from steering.concept_files import read_concept_files

    wanted = parse_layers(layers) if layers else None
    if layers and not model:
        raise DataError(f"--layers {layers!r} is for the prediction, which needs a --model")
    files = read_concept_files(concept_directory(concept))
    findings = check_concept_files(files)
    for finding in findings:
        typer.echo(visible(f"{'fault' if finding.is_fault else 'warning'}: {finding.place}: {finding.message}"))
    counts = Counter(finding.is_fault for finding in findings)
    typer.echo(f"{counted(counts[True], 'fault')}, {counted(counts[False], 'warning')}")
    if files.concept is None:
        raise typer.Exit(1)
    if model:
        _predict(files.concept, model, wanted, dtype, device)


@app.command("list")
def list_concepts() -> None:
    """List the built-in concepts."""
    for name in builtin_concepts():
        typer.echo(f"{name}: {load_concept(name).description}")


@app.command()
def show(concept: Reference, pairs: Annotated[int, typer.Option(min=0, help="How many pairs to show.")] = 2) -> None:
    """Show what a concept says and some of its pairs."""
    found = load_concept(concept)
    facts = {key: getattr(found, key) for key in ("name", "description", "licence", "source")}
    if found.chat:
        facts["chat"] = "prompts are messages to a chat model, and continuations its answers"
    for key in ("rollout_prompts", "one_word_prompts", "development_prompts"):
        prompts = getattr(found, key)
        facts[key.replace("_", " ")] = f"{len(prompts)}{f', the first: {prompts[0]}' if prompts else ''}"
    facts |= {f"{side} keywords": ", ".join(getattr(found.keywords, side)) for side in get_args(Side)}
    facts["pairs"] = f"{len(found.generation)} of generation, {len(found.test)} of the test"
    for key, value in facts.items():
        typer.echo(f"{key + ':':<21}{visible(value)}")
    if shown := found.generation[:pairs]:
        typer.echo(f"\nThe first {counted(len(shown), 'pair')} of generation:")
    for pair in shown:
        typer.echo(visible(f"{pair.id}: {pair.prompt}"))
        typer.echo(visible(f"  positive: {pair.positive}"))
        typer.echo(visible(f"  negative: {pair.negative}"))


def _require_texts(**given: str | list[str] | None) -> None:
    """Refuse values of options that are no text; the names of the options are the keys'."""
    for key, value in given.items():
        for text in [value] if isinstance(value, str) else value or ():
            require_text(f"--{key.replace('_', '-')}", text)


def _sides(positive: list[str] | None, negative: list[str] | None) -> dict[str, list[str]]:
    given = {"positive": positive, "negative": negative}
    return {side: keywords for side, keywords in given.items() if keywords}


def _brief(path: Path | None, given: dict[str, Any], output: Path) -> ConceptBrief:
    """What the file says, with the options that were given in its place."""
    table = read_toml(path) if path else {}
    given = {key: value for key, value in given.items() if value}
    if isinstance(keywords := table.get("keywords"), dict) and "keywords" in given:
        given["keywords"] = keywords | given["keywords"]  # an option of one side leaves the other
    table |= given
    if path is None:
        _require_options(table)
    if "name" not in table and not CONCEPT_NAME.fullmatch(output.resolve().name):
        raise DataError(f"--output {output}: a concept cannot be called so; give its name by --name ({NAME_RULE})")
    return concept_brief({"name": output.resolve().name} | table, str(path) if path else "options")


def _require_options(given: dict[str, Any]) -> None:
    """Refuse to go on without an option that no file stands in for."""
    if missing := [option for key, option in _NEEDED.items() if key not in given]:
        raise DataError(f"the pairs to write are not described: give {', '.join(missing)}, or a --brief file")
    sides = given.get("keywords", {})
    if sides and (lacking := [f"--{side}-keyword" for side in get_args(Side) if side not in sides]):
        raise DataError(f"success words of one side alone were given: give {', '.join(lacking)}, too")


def _predict(concept: Concept, reference: str, layers: Sequence[int] | None, dtype: str, device: str) -> None:
    from steering.activation_cache import ActivationCache
    from steering.activations import capture_pairs
    from steering.concept_checks.prediction import LIMITS, predict, prediction_table, sentences
    from steering.models.checks import check_layers
    from steering.models.loading import layer_count
    from steering.tables.terminal import PROSE_WIDTH

    blocks = layer_count(reference)
    chosen = tuple(range(blocks)) if layers is None else tuple(layers)
    check_layers(chosen, blocks, reference)
    model = load_model(reference, dtype, device)

    def capture(pairs: Sequence[ContrastPair]) -> ContrastActivations:
        reporter, cache = progress.for_terminal(), ActivationCache()
        return capture_pairs(model, pairs, chosen, concept.name, progress=reporter, cache=cache)

    predictions = predict(capture(concept.generation), capture(concept.test))
    print_table(prediction_table(predictions))
    for sentence in (*sentences(predictions), LIMITS):
        typer.echo(textwrap.fill(sentence, min(terminal_width(), PROSE_WIDTH)))
