"""Tables of results for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steering.results import SAE, UNSTEERED, Row

#: Columns of the summary, each a metric and its heading.
_COLUMNS = (
    ("rollout_probability", "P(success) [95 % CI]"),
    ("loss_change_positive", "Δ loss positive"),
    ("loss_change_negative", "Δ loss negative"),
    ("loss_change_neutral", "Δ loss neutral"),
    ("one_word_changed", "words changed"),
)
_SAE_COLUMNS = (
    ("sae_variance_explained", "variance explained [95 % CI]"),
    ("sae_l0", "L0"),
    ("sae_spliced_loss", "loss, spliced in"),
    ("sae_loss_recovered", "loss recovered"),
    ("sae_silent_features", "silent features"),
)
_FEATURES_SHOWN = 3
#: Columns that hold words, aligned to the left.
_NAMES = ("run", "method", "claim", "SAE", "description", "context")


def to_csv(rows: Sequence[Row]) -> str:
    """One line for each metric value, at full precision; per-item values and texts stay in the journal."""
    names = [field.name for field in fields(Row) if field.name not in ("items", "texts", "features")]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: json.dumps(value) if isinstance(value, dict) else value for key, value in asdict(row).items()}
        )
    return buffer.getvalue()


def to_markdown(rows: Sequence[Row]) -> str:
    """The summary as Markdown, with the tables of features and of SAEs where there are any."""
    tables = [table for table in (summary(rows), feature_summary(rows), sae_summary(rows)) if len(table) > 1]
    return "\n".join(map(_markdown, tables))


def _markdown(table: Sequence[Sequence[str]]) -> str:
    header, *body = table
    rule = ["---" if name in _NAMES else "---:" for name in header]
    return "".join("| " + " | ".join(_escaped(cell) for cell in line) + " |\n" for line in (header, rule, *body))


def to_text(lines: Sequence[Sequence[str]], width: int) -> str:
    """Align a table of strings, whose first line holds the headings, for a terminal of `width` columns."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in lines[0]:
        table.add_column(Text(heading), justify="left" if heading in _NAMES else "right", overflow="fold")
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def summary(rows: Sequence[Row], verdicts: Mapping[tuple[str, int], str] | None = None) -> list[list[str]]:
    """One line for each configuration, the unsteered one first, under a line of headings.

    Intervals are at 95 %; p is one-sided and paired with the unsteered rollouts, "p control" with those of the plan's
    control. "norm" is that of what is added: the vector's times the multiplier. A dash stands for what was not
    measured.

    Args:
        rows: Of one or several runs.
        verdicts: (method, layer) -> what became of the claim; adds a last column.
    """
    rows = [row for row in rows if row.method != SAE]
    runs = _Runs.of(rows)
    header = [*runs.heading, "method", "layer", "×", "norm", _COLUMNS[0][1], "p", "p control"]
    lines = [[*header, *(heading for _, heading in _COLUMNS[1:])]]
    if verdicts is not None:
        lines[0].append("claim")
    for metrics in _configurations(rows):
        row = next(iter(metrics.values()))
        line = [*runs.cell(row), *_line(row, metrics)]
        if verdicts is not None:
            line.append("" if row.layer is None else verdicts.get((row.method, row.layer), ""))
        lines.append(line)
    return lines


def sae_summary(rows: Sequence[Row], verdicts: Mapping[tuple[str, int], str] | None = None) -> list[list[str]]:
    """One line for each SAE whose quality was measured, under a line of headings; arguments as in `summary`."""
    rows = [row for row in rows if row.method == SAE]
    runs = _Runs.of(rows)
    header = [*runs.heading, "SAE", "layer", *(heading for _, heading in _SAE_COLUMNS)]
    lines = [[*header, *([] if verdicts is None else ["claim"])]]
    for metrics in _configurations(rows):
        row = next(iter(metrics.values()))
        names = [*runs.cell(row), str(row.parameters.get("sae", ""))]
        values = [_number(metrics.get(metric)) for metric, _ in _SAE_COLUMNS[1:]]
        claim = [] if verdicts is None else [verdicts.get((SAE, row.layer or 0), "")]
        lines.append([*names, str(row.layer), _proportion(metrics.get(_SAE_COLUMNS[0][0])), *values, *claim])
    return lines


def feature_summary(rows: Sequence[Row]) -> list[list[str]]:
    """The heaviest features of each vector that is a sum of features, under a line of headings."""
    rows = [row for row in rows if row.features]
    runs = _Runs.of(rows)
    lines = [[*runs.heading, "method", "layer", "feature", "weight", "description"]]
    for metrics in _configurations(rows):
        row = next(iter(metrics.values()))
        lines += [
            [*runs.cell(row), row.method, str(row.layer), str(entry.feature), f"{entry.weight:+.3f}", entry.description]
            for entry in row.features[:_FEATURES_SHOWN]
        ]
    return lines


def _configurations(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """Metric -> row, for each configuration in its order."""
    configurations: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        configurations.setdefault(row.key[:-1], {})[row.metric] = row
    return sorted(configurations.values(), key=_order)


def _circumstances(row: Row) -> dict[str, Any]:
    """What a run is told apart by."""
    keys = ("model", "dtype", "concept", "toward", "neutral", "seed")
    return {key: getattr(row, key) for key in keys} | row.measurement


@dataclass(frozen=True)
class _Runs:
    """The first column of a table whose rows were not all measured under the same circumstances.

    Attributes:
        differing: Names of the circumstances that are not the same in all rows; where there are none, there is no
            column.
    """

    differing: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Runs:
        found = [_circumstances(row) for row in rows]
        names = dict.fromkeys(key for entry in found for key in entry)
        return cls(tuple(key for key in names if len({json.dumps(entry.get(key)) for entry in found}) > 1))

    @property
    def heading(self) -> list[str]:
        return ["run"] if self.differing else []

    def cell(self, row: Row) -> list[str]:
        here = _circumstances(row)
        return [", ".join(f"{key} {here.get(key, '-')}" for key in self.differing)] if self.differing else []


def _order(metrics: dict[str, Row]) -> tuple[Any, ...]:
    row = next(iter(metrics.values()))
    steered = row.method != UNSTEERED
    layer = -1 if row.layer is None else row.layer
    return (json.dumps(_circumstances(row)), steered, row.method, layer, row.multiplier)


def _line(row: Row, metrics: dict[str, Row]) -> list[str]:
    steered = row.method != UNSTEERED
    success = metrics.get(_COLUMNS[0][0])
    if not steered:
        return [row.method, "", "", "", _proportion(success), "", "", *[""] * (len(_COLUMNS) - 1)]
    norm = "-" if row.vector_norm is None else f"{abs(row.multiplier) * row.vector_norm:.0f}"
    line = [row.method, str(row.layer), f"{row.multiplier:.3g}", norm, _proportion(success)]
    line += ["-", "-"] if success is None else [_p_value(success.p_value), _p_value(success.p_control)]
    line += [_change(metrics.get(metric)) for metric, _ in _COLUMNS[1:-1]]
    return [*line, _count(metrics.get(_COLUMNS[-1][0]))]


def _proportion(row: Row | None) -> str:
    if row is None or row.value is None:
        return "-"
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _number(row: Row | None) -> str:
    return "-" if row is None or row.value is None else f"{row.value:.3f}"


def _change(row: Row | None) -> str:
    return "-" if row is None or row.value is None else f"{row.value:+.3f}"


def _count(row: Row | None) -> str:
    return "-" if row is None or row.value is None else f"{round(row.value * row.n)}/{row.n}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
