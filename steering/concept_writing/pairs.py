"""Pairs while they are being written: which are new, and the file that keeps them until there are enough."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from steering.concept_writing.briefs import ConceptBrief
from steering.concept_writing.replies import Story
from steering.concepts import PAIR_FIELDS, ContrastPair
from steering.errors import DataError, ResultsError
from steering.files import append_lines, parse_object, read_records
from steering.phrases import NEAR_DUPLICATE, normalised, similarity, words

#: In the directory of the concept, while it is not complete.
PARTIAL_NAME = ".partial.jsonl"

_FIELDS = (*PAIR_FIELDS, "model")
_NUMBER = re.compile(r"-([0-9]{1,9})$")
_FILES = ("concept.toml", "generation.jsonl", "test.jsonl")
# What a pair depends on; keywords and prompts may still be chosen when the pairs have been written.
_WRITTEN_BY = ("name", "description", "positive", "negative", "example")


class KnownTexts:
    """Texts of the pairs so far, to tell what is new."""

    def __init__(self, pairs: Sequence[ContrastPair] = ()) -> None:
        self._prompts: list[frozenset[str]] = []
        self._continuations: set[str] = set()
        for pair in pairs:
            self.add(Story(pair.prompt, pair.positive, pair.negative))

    def repeats(self, story: Story) -> bool:
        """Whether a continuation exists but for case and punctuation, or a hook of nearly the same words."""
        if {normalised(story.positive), normalised(story.negative)} & self._continuations:
            return True
        hook = frozenset(words(story.hook))
        return any(similarity(hook, other) > NEAR_DUPLICATE for other in self._prompts)

    def add(self, story: Story) -> None:
        """Remember a story."""
        self._prompts.append(frozenset(words(story.hook)))
        self._continuations |= {normalised(story.positive), normalised(story.negative)}


@dataclass(frozen=True)
class WrittenPair:
    """A pair, and the model that wrote it."""

    pair: ContrastPair
    model: str


class PartialFile:
    """Keeps pairs, each of them on disk when `append` returns. Opened by `open_partial`.

    Attributes:
        path: The file.
        pairs: What it holds, in the order in which they were written.
    """

    def __init__(self, path: Path, pairs: Sequence[WrittenPair]) -> None:
        self.path = path
        self.pairs = list(pairs)

    @property
    def next_number(self) -> int:
        """For the id of the next pair: above those of all pairs, of which some may have been removed by hand."""
        found = (_NUMBER.search(written.pair.id) for written in self.pairs)
        return max((int(number[1]) for number in found if number), default=0) + 1

    def append(self, written: WrittenPair) -> None:
        """Keep a pair.

        Raises:
            ResultsError: It cannot be written; earlier ones are kept.
        """
        _append(self.path, written.pair.record | {"model": written.model})
        self.pairs.append(written)

    def discard(self) -> None:
        """Remove the file, when the concept is complete."""
        self.path.unlink(missing_ok=True)


@contextmanager
def open_partial(directory: Path, brief: ConceptBrief) -> Iterator[PartialFile]:
    """Open what an earlier start has kept, or begin; no other process can at the same time.

    Args:
        directory: Where the concept is to be; created where it does not exist.
        brief: What the pairs are written by; an earlier start must have had the same.

    Raises:
        DataError: The directory holds a concept or pairs of another brief, or another process writes there.
        ResultsError: It cannot be written.
    """
    path, lock_path = directory / PARTIAL_NAME, directory / f"{PARTIAL_NAME}.lock"
    lock, is_new = FileLock(lock_path), not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{directory}: another process writes a concept there; wait for it to end") from None
    except OSError as error:
        raise ResultsError(f"{directory}: cannot be written: {error.strerror or error}") from None
    try:
        partial = _open(path, {key: value for key, value in asdict(brief).items() if key in _WRITTEN_BY})
        try:
            yield partial
        finally:
            if not partial.pairs:
                partial.discard()
    finally:
        if not path.exists():  # before the lock is released: afterwards the file may be another process's
            lock_path.unlink(missing_ok=True)
        lock.release()
        if is_new:
            with suppress(OSError):  # it holds something
                directory.rmdir()


def _open(path: Path, brief: Mapping[str, Any]) -> PartialFile:
    _append(path)
    if path.read_bytes().count(b"\n") < 2:  # not even a pair after the brief
        path.unlink(missing_ok=True)
        if there := [name for name in _FILES if (path.parent / name).exists()]:
            raise DataError(f"{path.parent}: there is a concept already ({there[0]}); choose another --output")
        _append(path, {"brief": json.dumps(brief)})
        return PartialFile(path, [])
    pairs: list[WrittenPair] = []
    for number, record in read_records(path, ()):
        if number == 1:
            _require_same(path, parse_object(path, number, str(record.get("brief", ""))), brief)
            continue
        if not all(isinstance(record.get(field), str) for field in _FIELDS):
            raise DataError(f"{path}:{number}: not a pair with {', '.join(_FIELDS)}; remove the line")
        try:
            pair = ContrastPair(*(record[field] for field in PAIR_FIELDS))
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}; remove the line") from None
        if pair.id in (written.pair.id for written in pairs):
            raise DataError(f"{path}:{number}: pair id {pair.id!r} occurs more than once; remove the line")
        pairs.append(WrittenPair(pair, record["model"]))
    return PartialFile(path, pairs)


def _require_same(path: Path, earlier: Mapping[str, Any], brief: Mapping[str, Any]) -> None:
    if differing := [key for key in _WRITTEN_BY if earlier.get(key) != brief[key]]:
        raise DataError(
            f"{path}: begun with another brief ({', '.join(differing)}); give the same, or another --output"
        )


def _append(path: Path, *records: Mapping[str, Any]) -> None:
    """Append records; with none, only cut off what a killed process left of a line."""
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    try:
        append_lines(path, lines.encode())
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {error.strerror or error}; earlier pairs are kept") from None
