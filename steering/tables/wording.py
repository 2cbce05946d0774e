"""How numbers and names are written in tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from steering.results import NEGATIVE_CHANGE, NEUTRAL_CHANGE, POSITIVE_CHANGE, SUCCESS, Row

if TYPE_CHECKING:
    from steering.verdicts.baselines import BaselineCell

#: Stands for what was not measured.
ABSENT = "-"
#: Of the metrics that are gated, in the summary and in the gate's tables.
HEADINGS = {
    SUCCESS: "P(success)",
    POSITIVE_CHANGE: "Δ loss positive",
    NEGATIVE_CHANGE: "Δ loss negative",
    NEUTRAL_CHANGE: "Δ loss neutral",
}
#: Headings of columns that hold words, aligned to the left; all others hold numbers.
NAMES = (
    "run",
    "method",
    "claim",
    "SAE",
    "description",
    "context",
    "other controls",
    "verdict",
    "prompt",
    "no steering",
    "steered",
    "not measured",
    "reason",
)


def alignment(heading: str) -> Literal["left", "right"]:
    """Of a column of some heading: "left" or "right"."""
    return "left" if heading in NAMES else "right"


def visible(text: str) -> str:
    """Text on one line that shows what it holds: white space as spaces, control characters as replacement characters.

    Names in results are whatever a profile calls its plans: they may hold what moves a terminal's cursor or turns the
    direction of reading.
    """
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\ufffd" for character in text
    )


def interval(value: float, low: float | None, high: float | None, form: str = ".3f") -> str:
    """A value with the ends of its interval, if it has one, each in a format of Python's."""
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def proportion(row: Row | None) -> str:
    """A value with its 95 % interval."""
    return ABSENT if row is None or row.value is None else interval(row.value, row.low, row.high)


def change_with_interval(row: Row | None) -> str:
    """A signed value with its 95 % interval."""
    return ABSENT if row is None or row.value is None else interval(row.value, row.low, row.high, "+.3f")


def p_value(value: float | None) -> str:
    """A p value, bounded where it would round to 0."""
    if value is None:
        return ABSENT
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def number(row: Row | None) -> str:
    """A value."""
    return ABSENT if row is None or row.value is None else f"{row.value:.3f}"


def change(row: Row | None) -> str:
    """A signed value."""
    return signed(None if row is None else row.value)


def signed(value: float | None) -> str:
    """A signed number."""
    return ABSENT if value is None else f"{value:+.3f}"


def count(row: Row | None) -> str:
    """A proportion as the number of items of all items."""
    return ABSENT if row is None or row.value is None else f"{round(row.value * row.n)}/{row.n}"


def multiplier(row: Row | BaselineCell) -> str:
    """What the vector is multiplied by."""
    return f"{row.multiplier:.0f}" if 1000 <= abs(row.multiplier) < 1e5 else f"{row.multiplier:.3g}"


def norm(row: Row | BaselineCell) -> str:
    """Length of what is added."""
    if row.added_norm is None:
        return ABSENT
    return f"{row.added_norm:.0f}" if row.added_norm == 0 or 10 <= row.added_norm < 1e5 else f"{row.added_norm:.3g}"


def layer_list(layers: Iterable[int]) -> str:
    """Block numbers with runs of them joined: "8–12, 20"."""
    numbered = enumerate(sorted(set(layers)))
    runs = [[layer for _, layer in run] for _, run in groupby(numbered, key=lambda entry: entry[1] - entry[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def counted_layers(layers: Sequence[int]) -> str:
    """The same with the noun in its number: "layers 8–12, 20"."""
    return f"{plural(len(set(layers)), 'layer')} {layer_list(layers)}"


def counted(count: int, noun: str) -> str:
    """How many there are, with the noun in its number: "1 cell", "2 cells"."""
    return f"{count} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    """A noun in the number of what is counted."""
    return noun if count == 1 else f"{noun}s"
