"""Reading JSON Lines files that a user wrote: every fault is reported with file and line number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from steering.errors import DataError


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file.

    Raises:
        DataError: The file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_records(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each non-blank line.

    Args:
        path: A JSON Lines file.
        required: Keys that each object must have, with non-blank strings as values.

    Raises:
        DataError: A line is not a JSON object or lacks a required string; or the file holds no object at all.
    """
    count = 0
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        record = _parse(path, number, line)
        for key in required:
            value = record.get(key)
            if not isinstance(value, str) or not value.strip():
                found = "is missing" if key not in record else f"is {value!r}"
                raise DataError(f"{path}:{number}: {key!r} {found}; it must be a non-empty string")
        count += 1
        yield number, record
    if count == 0:
        raise DataError(f"{path}: empty; it must hold one JSON object a line with {', '.join(required)}")


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not valid JSON: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: a JSON object is required, found {type(record).__name__}")
    return record
