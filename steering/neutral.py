"""Neutral documents: text that has nothing to do with a concept, to see what steering damages."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from steering.errors import DataError, UnknownNameError
from steering.files import read_records
from steering.hashing import json_hash
from steering.paths import data_directory, is_file

OPENWEBTEXT = "Skylion007/openwebtext"
# The data set itself is a loading script, which `datasets` no longer runs; the hub keeps this export of it.
PARQUET_EXPORT = "refs/convert/parquet"


@dataclass(frozen=True)
class NeutralSet:
    """Documents in a fixed order.

    Attributes:
        name: "embedded", "openwebtext" or the file's name.
        documents: One text each.
    """

    name: str
    documents: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a set without documents."""
        if not self.documents:
            raise DataError(f"neutral set {self.name!r} has no documents")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the documents in their order."""
        return json_hash(self.documents)


def load_neutral(reference: str, count: int, *, skip: int = 0) -> NeutralSet:
    """Load neutral documents: the first `count` of those that follow the first `skip`.

    Args:
        reference: "embedded", "openwebtext" (needs the model hub), or a JSON Lines file whose objects have a `text`.
        count: How many documents to take; fewer are used where a set holds fewer.
        skip: How many documents to leave out before them. With as many as the test split takes, what is loaded shares
            no document with it.

    Raises:
        UnknownNameError: Neither a known set nor a file.
        DataError: The file is malformed (file and line are named), no document is left after those that are skipped,
            or OpenWebText cannot be read.
    """
    if count < 1:
        raise DataError(f"neutral set {reference!r}: {count} documents were asked for; at least 1 is needed")
    if skip < 0:
        raise DataError(f"neutral set {reference!r}: {skip} documents were to be skipped; it must be 0 or more")
    if reference == "embedded":
        path = data_directory("neutral") / "web.jsonl"
        return NeutralSet("embedded", _after("embedded", _read(path), count, skip))
    if reference == "openwebtext":
        return NeutralSet("openwebtext", _after("openwebtext", _openwebtext(skip + count), count, skip))
    if is_file(reference):
        name = Path(reference).name.encode(errors="replace").decode()  # as results are written
        return NeutralSet(name, _after(reference, _read(Path(reference)), count, skip))
    raise UnknownNameError("neutral set", reference, ["embedded", "openwebtext"], "Or give a JSON Lines file.")


def _after(reference: str, documents: tuple[str, ...], count: int, skip: int) -> tuple[str, ...]:
    if 0 < len(documents) <= skip:
        raise DataError(
            f"neutral set {reference!r} has {len(documents)} documents, and {skip} were to be skipped, so none is "
            "left: ask for fewer `neutral_documents`, or give a longer file"
        )
    return documents[skip : skip + count]


def _read(path: Path) -> tuple[str, ...]:
    # The whole file is checked, also what lies beyond those that are taken: a fault must not hide behind a small count.
    return tuple(record["text"] for _, record in read_records(path, ("text",)))


def _openwebtext(count: int) -> tuple[str, ...]:
    from datasets import load_dataset

    try:
        stream = load_dataset(OPENWEBTEXT, revision=PARQUET_EXPORT, split="train", streaming=True)
        return tuple(record["text"] for record in itertools.islice(stream, count))
    except Exception as error:  # the hub client's own errors have no common root
        raise DataError(
            f"neutral set 'openwebtext' ({OPENWEBTEXT}) cannot be read: {error}. "
            "Use --neutral embedded, or give a JSON Lines file."
        ) from error
