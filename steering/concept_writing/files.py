"""All that is wrong with a concept's files, each fault with file and line, not only the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steering.concepts import (
    CHAT,
    CONCEPT_NAME,
    OPTIONAL_KEYS,
    PAIR_FIELDS,
    REQUIRED_KEYS,
    Concept,
    ContrastPair,
    misplaced_key,
    read_concept,
    require_flag,
    require_string,
    require_strings,
)
from steering.errors import DataError
from steering.files import parse_object, read_text, read_toml, require_text
from steering.keywords import Keywords

_KEYS = (*REQUIRED_KEYS, *OPTIONAL_KEYS, CHAT)


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
    """Read a concept as `load_concept` does, but go on after a fault."""
    files = ConceptFiles(directory)
    _read_description(files, directory / "concept.toml")
    for split, pairs in (("generation", files.generation), ("test", files.test)):
        _read_pairs(files, directory / f"{split}.jsonl", pairs)
    _find_overlap(files)
    if not any(finding.is_fault for finding in files.findings):
        files.concept = files.attempt(str(directory), read_concept, directory)
    return files


def _read_description(files: ConceptFiles, path: Path) -> None:
    table = files.attempt(str(path), read_toml, path)
    if table is None:
        return
    text = read_text(path)
    _find_keys(files, path, text, table)
    values = {
        key: files.attempt(_line_of(path, text, key), _reader_of(key), path, table, key)
        for key in _KEYS
        if key in table and key != "keywords"
    }
    if values.get("name") and not CONCEPT_NAME.fullmatch(values["name"]):
        message = f"concept name {values['name']!r}: use lower-case letters, digits, '-' and '_'"
        files.find(_line_of(path, text, "name"), message)
    if values.get("rollout_prompts") == ():
        files.find(_line_of(path, text, "rollout_prompts"), "rollout_prompts is empty; give at least one prompt")
    if both := set(values.get("rollout_prompts") or ()) & set(values.get("development_prompts") or ()):
        message = f"{min(both)!r} is in rollout_prompts and in development_prompts"
        files.find(_line_of(path, text, "development_prompts"), message)
    if "keywords" in table:
        _read_keywords(files, path, text, table["keywords"])


def _find_keys(files: ConceptFiles, path: Path, text: str, table: Mapping[str, Any]) -> None:
    """Keys that are missing, and keys that nobody reads."""
    for key in sorted(table.keys() - set(_KEYS)):
        near = difflib.get_close_matches(key, _KEYS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        files.find(_line_of(path, text, key), f"nothing reads the key {key!r}{meant}", is_fault=False)
    for key in REQUIRED_KEYS:
        if key not in table:
            files.find(str(path), f"missing {key}")


def _reader_of(key: str) -> Callable[[Path, dict[str, Any], str], object]:
    if key == CHAT:
        return require_flag
    return require_string if key in REQUIRED_KEYS[:4] else require_strings


def _read_keywords(files: ConceptFiles, path: Path, text: str, keywords: Any) -> None:
    place = _line_of(path, text, "keywords")
    if not isinstance(keywords, dict) or not {"positive", "negative"} <= set(keywords):
        files.find(place, "[keywords] must be a table with the lists 'positive' and 'negative'")
        return
    for key in sorted(keywords.keys() - {"positive", "negative"}):
        misplaced = key in {*OPTIONAL_KEYS, CHAT}
        message = misplaced_key(key) if misplaced else f"nothing reads the key {key!r} in [keywords]"
        files.find(_line_of(path, text, key), message, is_fault=misplaced)
    sides = [
        files.attempt(_line_of(path, text, side), require_strings, path, keywords, side)
        for side in ("positive", "negative")
    ]
    if None not in sides:
        files.attempt(place, Keywords, *sides)


def _read_pairs(files: ConceptFiles, path: Path, pairs: list[PlacedPair]) -> None:
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
            pair = files.attempt(place, ContrastPair, *(record[key].strip() for key in PAIR_FIELDS))
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


def _line_of(path: Path, text: str, key: str) -> str:
    """File and line where a key of a TOML file is set, or the file where that cannot be told."""
    pattern = re.compile(rf"^\s*(?:\[\s*)?[\"']?{re.escape(key)}[\"']?\s*[\]=.]")
    found = next((number for number, line in enumerate(text.split("\n"), start=1) if pattern.match(line)), None)
    return str(path) if found is None else f"{path}:{found}"
