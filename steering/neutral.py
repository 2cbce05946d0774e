"""Neutral documents: text that has nothing to do with a concept, to see what steering damages."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from steering.errors import DataError, UnknownNameError
from steering.files import read_records

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
        return hashlib.sha256(json.dumps(self.documents).encode()).hexdigest()


def load_neutral(reference: str, count: int) -> NeutralSet:
    """Load the first `count` neutral documents.

    Args:
        reference: "embedded", "openwebtext" (needs the model hub and the `datasets` package), or a JSON Lines file
            whose objects have a `text`.
        count: How many documents to take; fewer are used where a file holds fewer.

    Raises:
        UnknownNameError: Neither a known set nor a file.
        DataError: The file is malformed (file and line are named), or OpenWebText cannot be read.
    """
    if count < 1:
        raise DataError(f"neutral set {reference!r}: {count} documents were asked for; at least 1 is needed")
    if reference == "embedded":
        path = Path(str(resources.files("steering"))) / "data" / "neutral" / "web.jsonl"
        return NeutralSet("embedded", _read(path, count))
    if reference == "openwebtext":
        return NeutralSet("openwebtext", _openwebtext(count))
    if os.path.isfile(reference):  # noqa: PTH113 - False, not an error, for what cannot be a path
        return NeutralSet(Path(reference).name, _read(Path(reference), count))
    raise UnknownNameError("neutral set", reference, ["embedded", "openwebtext"], "Or give a JSON Lines file.")


def _read(path: Path, count: int) -> tuple[str, ...]:
    # The whole file is checked, also what lies beyond `count`: a fault must not hide behind a small count.
    return tuple(record["text"] for _, record in read_records(path, ("text",)))[:count]


def _openwebtext(count: int) -> tuple[str, ...]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError(
            "neutral set 'openwebtext' needs the package `datasets`: pip install 'steering-bench[hub]'"
        ) from None
    try:
        stream = load_dataset(OPENWEBTEXT, revision=PARQUET_EXPORT, split="train", streaming=True)
        return tuple(record["text"] for record in itertools.islice(stream, count))
    except Exception as error:  # the hub client's own errors have no common root
        raise DataError(
            f"neutral set 'openwebtext' ({OPENWEBTEXT}) cannot be read: {error}. "
            "Use --neutral embedded, or give a JSON Lines file."
        ) from error
