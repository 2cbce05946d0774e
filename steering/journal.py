"""Results on disk: an append-only JSON Lines file of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from steering.errors import ResultsError, first_fault
from steering.files import append_lines, require_each_key_once, whole_lines
from steering.paths import is_directory
from steering.results import SCHEMA_VERSION, Row, cell_id

FILE_NAME = "results.jsonl"


@dataclass(frozen=True)
class _Versioned:
    """What a row of any schema has."""

    schema_version: int


_NO_ROW = "not a results row: "
_ROW, _VERSIONED = TypeAdapter(Row), TypeAdapter(_Versioned)


class Journal:
    """Appends rows to `results.jsonl` in a directory; each append is complete and on disk when it returns.

    Several processes may append to one journal: a lock file beside it lets them take turns.

    Args:
        directory: Created where it does not exist. Rows of earlier runs stay.

    Raises:
        ResultsError: The directory cannot be created or written.
    """

    def __init__(self, directory: Path | str) -> None:
        directory = Path(directory)
        self.path = directory / FILE_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(directory / f".{FILE_NAME}.lock")
            self._append(b"")
        except OSError as error:
            raise ResultsError(
                f"results cannot be written to {directory}: {error.strerror or error}. Choose another directory."
            ) from error

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows and flush them to the disk; on failure the file is left as it was before.

        Raises:
            ResultsError: The disk is full, the file cannot be written, or a row is such as `load_rows` would refuse.
        """
        lines = b"".join(self._line(row) for row in rows)
        try:
            self._append(lines)
        except OSError as error:
            raise ResultsError(
                f"{self.path}: writing failed: {error.strerror or error}. Earlier rows are kept; "
                "make room, or choose another directory."
            ) from error

    def _line(self, row: Row) -> bytes:
        try:
            # A file name that is no text, among the settings, is kept as far as it is one.
            line = row.to_json().encode(errors="replace")
            parse_row(line)
        except (ResultsError, TypeError, ValueError) as error:
            fault = str(error).removeprefix(_NO_ROW)
            cell = cell_id(row.method, row.layer)
            raise ResultsError(f"{self.path}: {row.metric} of {cell} is not written: {fault}") from None
        return line + b"\n"

    def _append(self, lines: bytes) -> None:
        with self._lock:
            append_lines(self.path, lines)


def journal_file(path: Path | str) -> Path:
    """The journal that a path names: the one in a results directory, or the file itself."""
    path = Path(path)
    return path / FILE_NAME if is_directory(path) else path


def require_other_file(output: Path, results: Path) -> None:
    """Refuse to write over the journal that is read.

    Args:
        output: The file to write.
        results: A results directory, or a journal.

    Raises:
        ResultsError: They are the same file.
    """
    if output.resolve() == journal_file(results).resolve():
        raise ResultsError(f"--output {output} is the results themselves; name another file")


def load_rows(path: Path | str) -> list[Row]:
    """Read a journal; of a cell that was measured more than once, the last measurement counts, at its place.

    That is so, too, where another vector or dose came of the same settings: all of the earlier measurement is passed
    over. A cell whose vector could not be constructed, and later could, counts as measured.

    Args:
        path: A results directory or file. A last line that a killed run left unfinished is passed over.

    Raises:
        ResultsError: There is no such file, or a line is damaged or of another schema; the message names the line.
    """
    file = journal_file(path)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ResultsError(f"{file}: no such file; give a results directory or its {FILE_NAME}") from None
    except OSError as error:
        raise ResultsError(f"{file}: cannot be read: {error.strerror}") from None
    lines = enumerate(whole_lines(content), start=1)
    return _that_count([_row(file, number, line) for number, line in lines if line.strip()])


def _that_count(rows: Sequence[Row]) -> list[Row]:
    """Of all rows of a journal, those that nothing later took the place of."""
    last = sorted({row.key: index for index, row in enumerate(rows)}.values())
    last_vector = {rows[index].cell: (rows[index].vector_hash, rows[index].multiplier) for index in last}
    last_constructed = {row.place: index for index, row in enumerate(rows) if not row.lacks_vector}

    def counts(index: int) -> bool:
        row = rows[index]
        if last_vector[row.cell] != (row.vector_hash, row.multiplier):
            return False
        return not row.lacks_vector or last_constructed.get(row.place, -1) < index

    return [rows[index] for index in last if counts(index)]


def parse_row(line: bytes | str) -> Row:
    """Read what `Row.to_json` wrote.

    Raises:
        ResultsError: It is damaged, of another schema, or contradicts itself.
    """
    try:
        require_each_key_once(line)
        version = _VERSIONED.validate_json(line).schema_version
        if version != SCHEMA_VERSION:
            raise ResultsError(f"schema version {version}; this release reads {SCHEMA_VERSION}")
        row = _ROW.validate_json(line)
    except ValidationError as error:
        raise ResultsError(f"{_NO_ROW}{first_fault(error)}") from None
    except ValueError as error:
        raise ResultsError(f"{_NO_ROW}{error}") from None
    for contradiction in row.contradictions():
        raise ResultsError(f"{_NO_ROW}{contradiction}")
    return row


def _row(file: Path, number: int, line: bytes) -> Row:
    try:
        return parse_row(line)
    except ResultsError as error:
        raise ResultsError(f"{file}:{number}: {error}") from None
