"""Reading files that a user wrote, and writing files for one: every fault is one message that names the file."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from steering.errors import DataError, ResultsError

#: Of files that are being written.
PART_SUFFIX = ".part"


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file, without a byte order mark.

    Raises:
        DataError: The file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises:
        DataError: The file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except RecursionError:
        raise DataError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # besides syntax, a number that is too long
        raise DataError(f"{path}: not valid TOML: {error}") from None


def read_records(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each non-blank line of a JSON Lines file.

    Args:
        path: The file.
        required: Keys that each object must have, with non-blank strings as values.

    Raises:
        DataError: A line is not a JSON object or lacks a required string; or the file holds no object at all.
    """
    count = 0
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        record = parse_object(path, number, line)
        for key in required:
            require_text(path, number, record, key)
        count += 1
        yield number, record
    if count == 0:
        raise DataError(f"{path}: empty; it must hold one JSON object a line with {', '.join(required)}")


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, where there is none.

    Raises:
        ResultsError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {error.strerror or error}") from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a reader sees what was there before, or all that is written.

    Raises:
        ResultsError: It cannot be written; what was there before is kept.
    """
    try:
        if path.exists() and not path.is_file():  # a terminal or a pipe takes bytes, and is not to be replaced
            path.write_bytes(content)
        else:
            replace_file(Path(os.path.realpath(path)), content)  # `resolve` gives up at links that point at each other
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def turns_at(path: Path) -> Iterator[None]:
    """Let the processes that read a file, change what it says and write it take turns; its directory is made.

    Raises:
        ResultsError: Nothing can be written beside the file.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # what a terminal or a pipe took cannot be read again
        yield
        return
    make_directory(target.parent)
    lock_path = target.with_name(f".{target.name}.lock")
    lock = FileLock(lock_path)
    try:
        lock_path.touch()  # where no file can be made, filelock may try for ever
        lock.acquire()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # of a file that is open, on Windows; releasing removes it there
            lock_path.unlink()
        lock.release()


def replace_file(target: Path, content: bytes) -> None:
    """Put a new file in the place of whatever has its name, or leave that as it was; a kill may leave a `.part` file.

    Who may read and write the file is as it was before.

    Raises:
        OSError: It cannot be written.
    """
    part = target.with_name(f".{target.name}.{uuid4().hex}{PART_SUFFIX}")
    try:
        with part.open("xb") as file:  # never through a link that somebody laid
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a full disk may say so only now
        with contextlib.suppress(FileNotFoundError):
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        part.replace(target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def append_lines(path: Path, lines: bytes) -> None:
    """Append whole lines to a file, which is made where there is none, or leave it as it was.

    A last line that is not ended is ended first; what a killed process left of one is cut off.

    Raises:
        OSError: They cannot be written.
    """
    with path.open("ab+", buffering=0) as file:
        before = _end_last_line(file)
        try:
            if file.write(lines) != len(lines):
                raise OSError(0, "the disk took only a part of the data")
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def _end_last_line(file: FileIO) -> int:
    """Return the size of the file then; only a file that needs it is read."""
    size = file.seek(0, os.SEEK_END)
    if size > 0:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            last = file.readall().rpartition(b"\n")[2]
            if _is_object(last):
                return size + file.write(b"\n")
            size -= len(last)
            file.truncate(size)
    return size


def whole_lines(content: bytes) -> list[bytes]:
    """Lines of JSON objects, without their ends; a last one that is not ended counts if it is a whole object."""
    *lines, last = content.split(b"\n")
    return [*lines, last] if _is_object(last) else lines


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def parse_object(path: Path, number: int, line: str) -> dict[str, Any]:
    """Return the JSON object in a line.

    Args:
        path: The file, for messages.
        number: Of the line, from 1.
        line: Its text.

    Raises:
        DataError: It holds something else.
    """
    try:
        record = json.loads(line, object_pairs_hook=_each_key_once)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{number}: not valid JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise DataError(f"{path}:{number}: not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{path}:{number}: not valid JSON: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: a JSON object is required, found {type(record).__name__}")
    return record


def require_each_key_once(content: bytes | str) -> None:
    """Refuse JSON of which an object has a key twice, as a bad merge leaves it; other faults are let through.

    Raises:
        ValueError: The message names the key.
    """
    with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        json.loads(content, object_pairs_hook=_each_key_once)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in names if names.count(key) > 1)!r} occurs more than once")
    return found


def require_text(path: Path, number: int, record: dict[str, Any], key: str) -> None:
    """Refuse an object whose value at a key is no text, or blank.

    Raises:
        DataError: The message names file and line.
    """
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if key not in record else f"is {value!r}"
        raise DataError(f"{path}:{number}: {key!r} {found}; it must be a non-empty string")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{path}:{number}: {key!r} holds half of a surrogate pair, which is no character")
