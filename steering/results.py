"""The canonical record: an append-only JSON Lines journal, one object for each metric value."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter, ValidationError

from steering.errors import ResultsError, first_fault
from steering.feature_weights import FeatureWeight
from steering.files import append_lines

SCHEMA_VERSION = 1
FILE_NAME = "results.jsonl"
UNSTEERED = "unsteered"
SAE = "sae"

#: Parameter of cells whose dose was looked for: what neutral text was to bear, nats per token.
NEUTRAL_BUDGET = "neutral_budget"
#: Parameters of cells whose vector is scaled to the norm of another plan's: that plan's method and parameters, and the
#: multiplier that was asked for, from which the row's own follows.
NORM_OF, SCALED_MULTIPLIER = "norm_of", "scaled_multiplier"
#: Parameters that are no settings but what a measurement came to; another machine rounds them otherwise.
OUTCOMES = frozenset({"development_loss_change"})

Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True)
class Row:
    """One metric value of one cell, with everything that decides whether two of them can be compared.

    Attributes:
        run: Identifies the run that wrote the row.
        model: Name of the model.
        model_hash: SHA-256 of its weights as loaded.
        dtype: Of the weights, for instance "bfloat16".
        device: "cpu", "cuda" or "mps".
        concept: Name of the concept.
        toward: Side of the concept that is steered towards.
        neutral: Name of the neutral set.
        data_hash: Of concept and neutral documents.
        method: The profile's name of the method, by default the construction method's; "unsteered"; or "sae".
        parameters: Of the method.
        layer: Block whose output is steered, from 0; None for the unsteered run.
        multiplier: Of the vector; 0 for the unsteered run.
        vector_hash: Of the vector; empty for the unsteered run.
        vector_norm: Euclidean norm of the vector before the multiplier.
        seed: Of sampling.
        measurement: Settings that decide what the value means.
        metric: Name of the metric.
        value: Mean of the items; None unless `status` is "ok".
        n: Number of items.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Of the one-sided paired test against the unsteered run, where the metric has one.
        p_control: Of the one-sided paired test against the plan's control, where it has one.
        control: The profile's name of that control.
        is_control: Whether the method is there for comparison only.
        items: Per-item values.
        texts: Completions behind the items.
        features: The heaviest SAE features of the vector, where it is a sum of features.
        status: Whether the value was measured.
        reason: Why not, where it was not.
        model_settings_hash: Of the model's configuration, tokenizer and end-of-text tokens; empty in older rows.
        versions: Package -> version, and that of Python, of the environment that measured; empty in older rows.
        schema_version: Of this record.
    """

    run: str
    model: str
    model_hash: str
    dtype: str
    device: str
    concept: str
    toward: str
    neutral: str
    data_hash: str
    method: str
    parameters: dict[str, Any]
    layer: int | None
    multiplier: float
    vector_hash: str
    vector_norm: float | None
    seed: int
    measurement: dict[str, Any]
    metric: str
    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_control: float | None = None
    control: str = ""
    is_control: bool = False
    items: tuple[float, ...] = ()
    texts: tuple[str, ...] = field(default=(), repr=False)
    features: tuple[FeatureWeight, ...] = field(default=(), repr=False)
    status: Status = "ok"
    reason: str = ""
    model_settings_hash: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    # Rows that are read back are checked: no unknown key, no string for a number, no NaN.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """One line of strict JSON: NaN is refused."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False, ensure_ascii=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two rows measurements of the same thing."""
        return (*self.cell, self.multiplier, self.vector_hash, self.metric)

    @property
    def cell(self) -> tuple[Any, ...]:
        """What was asked for, whatever vector and dose came of it."""
        parameters = {name: value for name, value in self.parameters.items() if name not in OUTCOMES}
        details = json.dumps([parameters, self.measurement], sort_keys=True)
        return (*self._identity, self.set_multiplier, details)

    @property
    def set_multiplier(self) -> float | None:
        """The multiplier, where it was asked for; None where it follows from a budget or norm in the parameters."""
        follows = NEUTRAL_BUDGET in self.parameters or SCALED_MULTIPLIER in self.parameters
        return None if follows else self.multiplier

    @property
    def lacks_vector(self) -> bool:
        """Whether there was no vector to measure, though there should have been one."""
        return self.status != "ok" and self.method not in (UNSTEERED, SAE) and not self.vector_hash

    @property
    def place(self) -> tuple[Any, ...]:
        """What two measurements share even where only one of them had a vector."""
        details = json.dumps([self.parameters.get(NEUTRAL_BUDGET), self.measurement], sort_keys=True)
        return (*self._identity, details, self.metric)

    @property
    def _identity(self) -> tuple[Any, ...]:
        model = (self.model_hash, self.model_settings_hash, self.dtype, self.device)
        return (*model, self.data_hash, self.method, self.layer, self.seed)


@dataclass(frozen=True)
class _Versioned:
    """What a row of any schema has."""

    schema_version: int


_ROW, _VERSIONED = TypeAdapter(Row), TypeAdapter(_Versioned)


class Journal:
    """Appends rows to `results.jsonl` in a directory; each append is complete and on disk when it returns.

    Several processes may append to one journal: a lock file beside it lets them take turns.

    Args:
        directory: Created where it does not exist. Rows of earlier runs stay.

    Raises:
        ResultsError: The directory cannot be created or written.
    """

    def __init__(self, directory: Path) -> None:
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
            ResultsError: The disk is full or the file cannot be written.
        """
        try:
            # A file name that is no text, among the settings, is kept as far as it is one.
            self._append("".join(row.to_json() + "\n" for row in rows).encode(errors="replace"))
        except OSError as error:
            raise ResultsError(
                f"{self.path}: writing failed: {error.strerror or error}. Earlier rows are kept; "
                "make room, or choose another directory."
            ) from error

    def _append(self, lines: bytes) -> None:
        with self._lock:
            append_lines(self.path, lines)


def cell_id(method: str, layer: int | None) -> str:
    """How a cell is called: as the benchmark's test, whose layer comes last, so that `-k layer8` selects by it."""
    return method if layer is None else f"{method}-layer{layer}"


def require_other_file(output: Path, results: Path) -> None:
    """Refuse to write over the journal that is read.

    Args:
        output: The file to write.
        results: A results directory, or a journal.

    Raises:
        ResultsError: They are the same file.
    """
    journal = results / FILE_NAME if results.is_dir() else results
    if output.resolve() == journal.resolve():
        raise ResultsError(f"--output {output} is the results themselves; name another file")


def new_run_name() -> str:
    """A name for a run that begins now, which no other run has: the time (UTC) and the process."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"  # one process may run twice within a second


def load_rows(path: Path) -> list[Row]:
    """Read a journal; of a cell that was measured more than once, the last measurement counts, at its place.

    That is so, too, where another vector or dose came of the same settings: all of the earlier measurement is passed
    over. A cell whose vector could not be constructed, and later could, counts as measured.

    Args:
        path: A results directory or file. A last line that a killed run left unfinished is passed over.

    Raises:
        ResultsError: There is no such file, or a line is damaged or of another schema; the message names the line.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ResultsError(f"{file}: no such file; give a results directory or its {FILE_NAME}") from None
    except OSError as error:
        raise ResultsError(f"{file}: cannot be read: {error.strerror}") from None
    lines = content.split(b"\n")[:-1]
    rows = [_row(file, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    last = sorted({row.key: number for number, row in enumerate(rows)}.values())
    made = {rows[number].cell: (rows[number].vector_hash, rows[number].multiplier) for number in last}
    constructed = {row.place: number for number, row in enumerate(rows) if not row.lacks_vector}

    def counts(number: int) -> bool:
        row = rows[number]
        if made[row.cell] != (row.vector_hash, row.multiplier):
            return False
        return not row.lacks_vector or constructed.get(row.place, -1) < number

    return [rows[number] for number in last if counts(number)]


def parse_row(line: bytes | str) -> Row:
    """Read what `Row.to_json` wrote.

    Raises:
        ResultsError: It is damaged or of another schema.
    """
    try:
        version = _VERSIONED.validate_json(line).schema_version
        if version != SCHEMA_VERSION:
            raise ResultsError(f"schema version {version}; this release reads {SCHEMA_VERSION}")
        row = _ROW.validate_json(line)
        json.dumps([row.parameters, row.measurement], allow_nan=False)
    except ValidationError as error:
        raise ResultsError(f"not a results row: {first_fault(error)}") from None
    except ValueError:
        raise ResultsError("not a results row: parameters or measurement hold NaN or infinity") from None
    return row


def _row(file: Path, number: int, line: bytes) -> Row:
    try:
        return parse_row(line)
    except ResultsError as error:
        raise ResultsError(f"{file}:{number}: {error}") from None
