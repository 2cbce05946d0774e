"""Completions of the same rollouts side by side, chosen by a rule that does not look at what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from steering.grouping import grouped
from steering.keywords import keyword_pattern
from steering.report.studies import Study, StudyCell
from steering.report.verdict import best_cell
from steering.results import Row
from steering.tables import wording

#: Rollouts that are shown: the first.
SHOWN = 8
#: Methods that are shown beside the unsteered run: those with the highest P(success).
METHODS = 4
#: Characters of a completion that are shown.
LONGEST = 600


@dataclass(frozen=True)
class Segment:
    """A piece of a completion, and whether it is a keyword."""

    text: str
    keyword: bool


@dataclass(frozen=True)
class Sample:
    """A completion.

    Attributes:
        segments: Its text in pieces.
        succeeded: Whether it counted as a success.
        shortened: Whether more text follows.
    """

    segments: tuple[Segment, ...]
    succeeded: bool
    shortened: bool


@dataclass(frozen=True)
class Samples:
    """The first rollouts of some configurations.

    Attributes:
        columns: What each configuration is, and its P(success) with its interval.
        lines: Number of the rollout from 0, its prompt (empty where it is not known), and its completions.
        highlighted: Whether keywords are known.
        rollouts: How many there are of each configuration.
    """

    columns: tuple[tuple[str, str], ...]
    lines: tuple[tuple[int, str, tuple[Sample | None, ...]], ...]
    highlighted: bool
    rollouts: int


def samples_of(study: Study) -> Samples | None:
    """The first rollouts of the unsteered run and of each method's best cell; None where no texts were kept.

    The best cell has the highest P(success). Keywords are shown where those of the concept of that name explain every
    success and failure of the configurations shown: another concept may have the same name.
    """
    chosen = [("unsteered", study.unsteered), *((_name(cell), cell.success) for cell in _best_cells(study))]
    shown = [(name, row) for name, row in chosen if row is not None and row.texts and len(row.texts) == len(row.items)]
    if not shown:
        return None
    rows = [row for _, row in shown]
    pattern = _pattern(study, rows)
    prompts = study.concept.rollout_prompts if study.concept is not None and pattern is not None else ()
    longest = max(len(row.texts) for row in rows)
    lines = [
        (
            number,
            prompts[number % len(prompts)] if prompts else "",
            tuple(_sample(row, number, pattern) for row in rows),
        )
        for number in range(min(SHOWN, longest))
    ]
    columns = tuple((name, wording.proportion(row)) for name, row in shown)
    return Samples(columns, tuple(lines), pattern is not None, longest)


def segments_of(text: str, pattern: regex.Pattern[str] | None, length: int) -> tuple[Segment, ...]:
    """The first characters of a text in pieces, each match of a pattern in one of its own."""
    pieces, end = [], 0
    for match in pattern.finditer(text) if pattern is not None else ():
        pieces += [Segment(text[end : match.start()], keyword=False), Segment(match[0], keyword=True)]
        end = match.end()
    pieces.append(Segment(text[end:], keyword=False))
    kept, left = [], length
    for piece in pieces:
        kept.append(Segment(piece.text[:left], piece.keyword))
        left = max(0, left - len(piece.text))
    return tuple(piece for piece in kept if piece.text)


def _best_cells(study: Study) -> list[StudyCell]:
    """The best cell of each method that is no control; of more than can be shown, the highest."""
    methods = grouped([cell for cell in study.cells if not cell.row.is_control], lambda cell: cell.row.method)
    best = [found for cells in methods.values() if (found := best_cell(cells)) is not None]
    ranked = sorted(best, key=lambda cell: 0.0 if cell.success is None else -(cell.success.value or 0.0))
    return ranked[:METHODS]


def _name(cell: StudyCell) -> str:
    return f"{cell.row.method}, layer {cell.layer}, ×{wording.multiplier(cell.row)}"


def _pattern(study: Study, rows: Sequence[Row]) -> regex.Pattern[str] | None:
    if study.concept is None:
        return None
    pattern = keyword_pattern(study.concept.keywords.positive)
    explained = all(
        (pattern.search(text) is not None) == bool(item)
        for row in rows
        for text, item in zip(row.texts, row.items, strict=True)
    )
    return pattern if explained else None


def _sample(row: Row, number: int, pattern: regex.Pattern[str] | None) -> Sample | None:
    if number >= len(row.texts):
        return None
    text = row.texts[number].lstrip(" ")  # which nearly all begin with
    return Sample(segments_of(text, pattern, LONGEST), bool(row.items[number]), len(text) > LONGEST)
