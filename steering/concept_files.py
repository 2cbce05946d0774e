"""Concepts as files: where they are, and reading one with all that is wrong with it, each fault with file and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

from steering.concepts import PAIR_FIELDS, Concept, ContrastPair, Side, description_faults
from steering.errors import DataError, UnknownNameError, require_known
from steering.files import parse_object, read_text, read_toml, require_text
from steering.keywords import Keywords
from steering.paths import data_directory, is_directory, is_file

_SPLITS = ("generation", "test")


def load_concept(reference: str, toward: Side = "positive") -> Concept:
    """Load a concept by the name of a built-in one or by directory.

    The directory holds `concept.toml` beside `generation.jsonl` and `test.jsonl`.

    Args:
        reference: A built-in name (see `builtin_concepts`) or a path.
        toward: "negative" swaps the two sides.

    Raises:
        UnknownNameError: There is neither such a concept nor such a directory.
        DataError: A file is missing or malformed; the message names file and line.
    """
    require_known("side of a concept", [toward], get_args(Side))
    files = read_concept_files(concept_directory(reference))
    if files.concept is None:
        raise DataError(files.refusal)
    return files.concept if toward == "positive" else files.concept.reversed()


def concept_directory(reference: str) -> Path:
    """Return where the files of a concept are, by the name of a built-in one or by directory.

    Raises:
        UnknownNameError: There is neither.
    """
    if reference in builtin_concepts():
        return data_directory("concepts") / reference
    if is_directory(reference):
        return Path(reference)
    remedy = "Or give a directory with a concept.toml."
    if is_file(reference):
        remedy = f"{reference} is a file: give the directory that its concept.toml is in."
    raise UnknownNameError("concept", reference, builtin_concepts(), remedy)


def builtin_concepts() -> list[str]:
    """Names of the concepts that ship with the package."""
    return sorted(path.parent.name for path in data_directory("concepts").glob("*/concept.toml"))


@dataclass(frozen=True)
class Finding:
    """Something about a concept that its author should know.

    Attributes:
        place: File, with a line where there is one.
        message: What is wrong, and what would be right.
        is_fault: Whether the concept cannot be loaded because of it.
    """

    place: str
    message: str
    is_fault: bool = True


@dataclass(frozen=True)
class PlacedPair:
    """A pair and the line that holds it, counted from 1."""

    pair: ContrastPair
    path: Path
    line: int

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.path}:{self.line}"


@dataclass
class ConceptFiles:
    """What could be read of a concept.

    Attributes:
        directory: Where it is.
        findings: Faults, and keys that nobody reads.
        generation: Pairs that are well-formed.
        test: The same of the other split.
        concept: None where there is a fault.
    """

    directory: Path
    findings: list[Finding] = field(default_factory=list)
    generation: list[PlacedPair] = field(default_factory=list)
    test: list[PlacedPair] = field(default_factory=list)
    concept: Concept | None = None

    @property
    def faults(self) -> list[Finding]:
        """The findings for which the concept cannot be loaded."""
        return [finding for finding in self.findings if finding.is_fault]

    @property
    def refusal(self) -> str:
        """The first fault, and how to see the others."""
        first, *others = self.faults
        more = f" (and {len(others)} more: `steering concept check {self.directory}` lists all)" if others else ""
        return f"{first.place}: {first.message}{more}"

    def attempt(self, place: str, read: Callable[..., Any], *arguments: object) -> Any:
        """Return what `read` returns, or None with a finding, which does not say again in which file."""
        try:
            return read(*arguments)
        except DataError as error:
            path = re.sub(r":\d+$", "", place)
            self.find(place, re.sub(rf"^{re.escape(path)}(?::\d+)?: ", "", str(error)))
            return None

    def find(self, place: str, message: str, *, is_fault: bool = True) -> None:
        """Add a finding."""
        self.findings.append(Finding(place, message, is_fault))


def read_concept_files(directory: Path) -> ConceptFiles:
    """Read a concept, and go on after a fault."""
    files = ConceptFiles(directory)
    description = _read_description(files, directory / "concept.toml")
    chat = description.pop("chat", False)
    for split in _SPLITS:
        _read_pairs(files, directory / f"{split}.jsonl", chat, getattr(files, split))
    _find_overlap(files)
    if not files.faults:
        for split in _SPLITS:
            description[split] = tuple(placed.pair for placed in getattr(files, split))
        files.concept = Concept(**description)
    return files


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"must be a non-empty string, found {value!r}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry.strip() for entry in value):
        raise DataError(f"must be a list of non-empty strings, found {value!r}")
    return tuple(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise DataError(f"must be true or false, found {value!r}")
    return value


_READERS: dict[str, Callable[[object], object]] = {
    "name": _text,
    "description": _text,
    "licence": _text,
    "source": _text,
    "rollout_prompts": _texts,
    "one_word_prompts": _texts,
    "feature_keywords": _texts,
    "development_prompts": _texts,
    "chat": _flag,
}
_OPTIONAL = ("feature_keywords", "development_prompts", "chat")
# In place of what is missing or of another type, which has a finding of its own.
_SOUND: dict[str, Any] = {"name": "a", "rollout_prompts": ("a",), "development_prompts": ()}


def _read_description(files: ConceptFiles, path: Path) -> dict[str, Any]:
    """Read what concept.toml says of a concept: its fields, as far as they are right."""
    table = files.attempt(str(path), read_toml, path)
    if table is None:
        return {}
    place_of = partial(_place_of, path, read_text(path))
    _find_keys(files, path, place_of, table)
    found = {
        key: files.attempt(place_of(key), _read_value, table, key, read)
        for key, read in _READERS.items()
        if key in table
    }
    values = {key: value for key, value in found.items() if value is not None}
    sound = _SOUND | values
    for key, fault in description_faults(**{key: sound[key] for key in _SOUND}):
        files.find(place_of(key), fault)
    if "keywords" in table:
        values["keywords"] = _read_keywords(files, place_of, table["keywords"])
    return values


def _read_value(table: Mapping[str, object], key: str, read: Callable[[object], object]) -> object:
    try:
        return read(table[key])
    except DataError as error:
        raise DataError(f"{key!r} {error}") from None


def _find_keys(files: ConceptFiles, path: Path, place_of: Callable[[str], str], table: Mapping[str, object]) -> None:
    """Keys that are missing, and keys that nobody reads."""
    known = [*_READERS, "keywords"]
    for key in sorted(table.keys() - set(known)):
        near = difflib.get_close_matches(key, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        files.find(place_of(key), f"nothing reads the key {key!r}{meant}", is_fault=False)
    for key in known:
        if key not in table and key not in _OPTIONAL:
            files.find(str(path), f"missing {key}")


def _read_keywords(files: ConceptFiles, place_of: Callable[[str], str], table: object) -> Keywords | None:
    sides = get_args(Side)
    if not isinstance(table, dict) or not set(sides) <= set(table):
        files.find(place_of("keywords"), "[keywords] must be a table with the lists 'positive' and 'negative'")
        return None
    for key in sorted(table.keys() - set(sides)):
        # Whatever is added to the end of a file stands below its last table.
        misplaced = key in _OPTIONAL
        remedy = "; put it above [keywords]" if misplaced else ""
        message = f"{key} stands in [keywords], where nothing reads it{remedy}"
        files.find(place_of(key), message, is_fault=misplaced)
    words = [files.attempt(place_of(side), _read_value, table, side, _texts) for side in sides]
    return None if None in words else files.attempt(place_of("keywords"), Keywords, *words)


def _read_pairs(files: ConceptFiles, path: Path, chat: bool, pairs: list[PlacedPair]) -> None:
    text = files.attempt(str(path), read_text, path)
    if text is None:
        return
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        files.find(str(path), f"empty; it must hold one JSON object a line with {', '.join(PAIR_FIELDS)}")
    for number, line in lines:
        place = f"{path}:{number}"
        record = files.attempt(place, parse_object, path, number, line)
        if record is None:
            continue
        before = len(files.findings)
        for key in PAIR_FIELDS:
            files.attempt(place, require_text, path, number, record, key)
        if len(files.findings) == before:
            pair = files.attempt(place, ContrastPair, *(record[key].strip() for key in PAIR_FIELDS), chat)
            pairs += [] if pair is None else [PlacedPair(pair, path, number)]


def _find_overlap(files: ConceptFiles) -> None:
    """Ids that occur more than once, in either split, and prompts that both splits have."""
    first: dict[str, PlacedPair] = {}
    for placed in (*files.generation, *files.test):
        earlier = first.setdefault(placed.pair.id, placed)
        if earlier is not placed:
            files.find(placed.place, f"pair id {placed.pair.id!r} occurs more than once, first at {earlier.place}")
    generation = {placed.pair.prompt: placed for placed in reversed(files.generation)}
    for placed in files.test:
        if placed.pair.prompt in generation:
            files.find(placed.place, f"prompt in both splits, also at {generation[placed.pair.prompt].place}")


def _place_of(path: Path, text: str, key: str) -> str:
    """File and line where a key of a TOML file is set, or the file where that cannot be told."""
    pattern = re.compile(rf"^\s*(?:\[\s*)?[\"']?{re.escape(key)}[\"']?\s*[\]=.]")
    found = next((number for number, line in enumerate(text.split("\n"), start=1) if pattern.match(line)), None)
    return str(path) if found is None else f"{path}:{found}"
