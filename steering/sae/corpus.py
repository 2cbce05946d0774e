"""Text to train on and to look for activations in: files or a hub data set, cut into rows of tokens."""

from __future__ import annotations

import gzip
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from steering.errors import DataError
from steering.files import read_records, read_text
from steering.hashing import json_hash
from steering.models.tokens import text_ids
from steering.paths import is_directory, is_file

SEPARATOR = "<|doc|>"
_HELD_OUT_SHARE = 0.1
_SHORTEST_ROW = 16
_HUB_DOCUMENTS = 100_000


@dataclass(frozen=True)
class Source:
    """Documents of one origin.

    Attributes:
        name: File name or data set id.
        documents: One text each.
    """

    name: str
    documents: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a source without text."""
        if not any(document.strip() for document in self.documents):
            raise DataError(f"corpus source {self.name!r} has no text")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the documents in their order."""
        return json_hash(self.documents)


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Rows of token ids to run a model on.

    Attributes:
        training: Rows to train on, in the order in which sources and documents came.
        held_out: Rows of the last tenth of each source, or of all those together that have fewer than five.
    """

    training: tuple[np.ndarray, ...]
    held_out: tuple[np.ndarray, ...]

    def sample(self, tokens: int, seed: int) -> list[list[int]]:
        """Training rows in random order, as many as `tokens` need; all of them where there are fewer."""
        return _sample(self.training, tokens, seed)

    def sample_held_out(self, tokens: int) -> list[list[int]]:
        """Held-out rows in random order, which is always the same, as many as `tokens` need."""
        return _sample(self.held_out, tokens, 0)


def read_corpus(references: Sequence[str]) -> list[Source]:
    """Read sources.

    Args:
        references: Files, directories (all their files that can be read), or ids of hub data sets with a `text`
            column. A text file, compressed by xz or gzip or not, holds documents divided by a line `<|doc|>`; a JSON
            Lines file holds one object with a `text` for each.

    Raises:
        DataError: A file is missing, malformed or empty, or a data set cannot be read.
    """
    sources = [_read(reference) for reference in itertools.chain.from_iterable(map(_files, references))]
    if not sources:
        raise DataError("no corpus was given: name files, directories or a hub data set")
    return sources


def token_rows(tokenizer: PreTrainedTokenizerBase, sources: Iterable[Source], length: int) -> TokenRows:
    """Cut each document into rows of `length` tokens; a rest of fewer than 16 is dropped.

    The last tenth of each source's rows is held out; sources that are too small for that count together. Documents
    stand together, so that at most one document of a source is on both sides.

    Raises:
        DataError: No row is left.
    """
    training: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    in_small_sources = 0
    for source in sources:
        rows = list(_rows(tokenizer, source.documents, length))
        share = _tenth(len(rows))
        if share == 0:
            share = _tenth(in_small_sources + len(rows)) - _tenth(in_small_sources)
            in_small_sources += len(rows)
        border = len(rows) - share
        training += rows[:border]
        held_out += rows[border:]
    if not training or not held_out:
        raise DataError(f"the corpus has {len(training) + len(held_out)} rows of tokens; at least 5 are needed")
    return TokenRows(tuple(training), tuple(held_out))


def _tenth(rows: int) -> int:
    return int(rows * _HELD_OUT_SHARE + 0.5)


def _rows(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], length: int) -> Iterator[np.ndarray]:
    for document in documents:
        ids = np.asarray(text_ids(tokenizer, document), dtype=np.int32)
        for start in range(0, len(ids), length):
            if len(ids) - start >= min(length, _SHORTEST_ROW):
                yield ids[start : start + length]


def _sample(rows: Sequence[np.ndarray], tokens: int, seed: int) -> list[list[int]]:
    chosen: list[list[int]] = []
    count = 0
    for index in np.random.default_rng(seed).permutation(len(rows)):
        if count >= tokens:
            break
        chosen.append(rows[index].tolist())
        count += len(chosen[-1])
    return chosen


def _files(reference: str) -> list[str]:
    if not is_directory(reference):
        return [reference]
    found = [str(path) for path in sorted(Path(reference).iterdir()) if _reader(path) is not None]
    if not found:
        raise DataError(f"{reference}: no .txt, .txt.xz, .txt.gz or .jsonl file in this directory")
    return found


def _read(reference: str) -> Source:
    path = Path(reference)
    if is_file(reference):
        reader = _reader(path)
        if reader is None:
            raise DataError(f"{path}: a .txt, .txt.xz, .txt.gz or .jsonl file is required")
        return Source(path.name, tuple(reader(path)))
    if path.suffix in (".txt", ".xz", ".gz", ".jsonl") or reference.startswith((".", "/")):
        raise DataError(f"{path}: no such file")
    return Source(reference, tuple(_hub_documents(reference)))


def _reader(path: Path) -> Callable[[Path], list[str]] | None:
    readers: dict[str, Callable[[Path], list[str]]] = {
        ".txt": lambda path: _documents(read_text(path)),
        ".txt.xz": lambda path: _documents(_decompressed(path, lzma.open)),
        ".txt.gz": lambda path: _documents(_decompressed(path, gzip.open)),
        ".jsonl": lambda path: [record["text"] for _, record in read_records(path, ("text",))],
    }
    return next((reader for suffix, reader in readers.items() if path.name.endswith(suffix)), None)


def _documents(text: str) -> list[str]:
    parts = re.split(rf"^{re.escape(SEPARATOR)}$", text, flags=re.MULTILINE)
    return [part.strip() for part in parts if part.strip()]


def _decompressed(path: Path, opener: Callable[..., object]) -> str:
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:  # type: ignore[attr-defined]
            return str(file.read())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: cannot be decompressed: {error}") from None


def _hub_documents(reference: str) -> Iterator[str]:
    from datasets import load_dataset

    try:
        stream = load_dataset(reference, split="train", streaming=True)
        for record in itertools.islice(stream, _HUB_DOCUMENTS):
            yield str(record["text"])
    except Exception as error:  # the hub client's own errors have no common root
        raise DataError(f"corpus {reference!r}: neither a file nor a data set that can be read: {error}") from error
