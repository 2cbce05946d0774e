"""What stands in a report: everything that is computed, before anything is markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from steering.concept_files import builtin_concepts, load_concept
from steering.concepts import Concept, Side
from steering.profiles import Profile
from steering.report.environment import settings_table, vector_table, versions_table
from steering.report.heat import HeatMap, damage_map, success_map
from steering.report.limits import limits_of
from steering.report.samples import Samples, samples_of
from steering.report.studies import Study, studies_of
from steering.report.verdict import StudyVerdict, verdict_of
from steering.results import Row
from steering.tables.captions import CAPTIONS, IMPROVEMENTS
from steering.tables.comparisons import selection_summary
from steering.tables.export import result_tables
from steering.tables.gate import remarks, verdict_table
from steering.tables.pareto import pareto_statement
from steering.tables.wording import ABSENT
from steering.verdicts.gate import GateReport

#: Characters of a table's cell that are shown.
LONGEST_CELL = 300
_ROW_HEADERS = ("method", "SAE", "setting", "package")
# Alone, in a test's parentheses, below a bound, of a total, with an interval, or changed to another.
_NUMBER = re.compile(r"\(?(?:< )?[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?\)?(?:/\d+)?(?: [\[→].*)?")


@dataclass(frozen=True)
class Table:
    """A table of strings.

    Attributes:
        caption: Says what it holds.
        headings: Of the columns, each with whether it holds words: anything but numbers.
        lines: One tuple of cells each.
        row_header: Index of the column that names a line.
    """

    caption: str
    headings: tuple[tuple[str, bool], ...]
    lines: tuple[tuple[str, ...], ...]
    row_header: int

    @classmethod
    def of(cls, caption: str, table: Sequence[Sequence[str]]) -> Table:
        """From a list of lines, the headings first; long cells are cut."""
        headings = tuple(
            (heading, not all(_is_number(line[column]) for line in table[1:]))
            for column, heading in enumerate(table[0])
        )
        lines = tuple(tuple(clipped(cell, LONGEST_CELL) for cell in line) for line in table[1:])
        named = (number for number, heading in enumerate(table[0]) if heading in _ROW_HEADERS)
        return cls(caption, headings, lines, next(named, 0))


@dataclass(frozen=True)
class StudyPart:
    """What a report says of one study."""

    study: Study
    verdict: StudyVerdict
    maps: tuple[HeatMap, ...]
    samples: Samples | None
    vectors: Table
    limits: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GatePart:
    """What the gate says: cells against a baseline."""

    table: Table
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """Everything in a report but its figures.

    Attributes:
        title: Of the page.
        facts: Name and value of what the reader has to know first.
        parts: One for each study.
        tables: Title -> table, of those that have lines.
        settings: What the values depend on.
        versions: Of the packages that the report was computed with.
        gate: The comparison with a baseline, where there is one.
        level: That adjusted p values are held against.
        neutral_bound: That costs are held against, nats per token.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    parts: tuple[StudyPart, ...]
    tables: dict[str, Table]
    settings: Table
    versions: Table
    gate: GatePart | None
    level: float
    neutral_bound: float


def _is_number(cell: str) -> bool:
    return cell in ("", ABSENT) or _NUMBER.fullmatch(cell) is not None


def content_of(rows: Sequence[Row], profile: Profile | None, gate: GateReport | None) -> Content:
    """Compute a report.

    Args:
        rows: Of one or several runs.
        profile: Gives the level of tests, the bound of neutral loss, and a concept to find keywords in; by default the
            level and bound that profiles have by default, and the built-in concepts.
        gate: The rows against a baseline.

    Raises:
        SteeringError: The profile's concept cannot be read.
    """
    source = Profile if profile is None else profile
    level, bound = source.alpha, source.neutral_bound
    studies = studies_of(rows, level, _concepts(rows, profile))
    tables = result_tables(rows, neutral_bound=bound)
    captions = CAPTIONS | {IMPROVEMENTS: f"{CAPTIONS[IMPROVEMENTS]} {pareto_statement(rows)}"}
    return Content(
        title=f"Steering: {_named(row.concept for row in rows)}",
        facts=_facts(rows),
        parts=tuple(_part(study, bound, _is_chosen(study, rows, bound)) for study in studies),
        tables={title: Table.of(captions[title], table) for title, table in tables.items()} | _prompts(studies),
        settings=Table.of("What the values depend on, and which runs wrote them.", settings_table(rows)),
        versions=Table.of("What computed this report. What measured the results is in the settings.", versions_table()),
        gate=None if gate is None else _gate(gate),
        level=level,
        neutral_bound=bound,
    )


def _prompts(studies: Sequence[Study]) -> dict[str, Table]:
    """The prompts that figures of one-word completions number, of each concept that is known."""
    asked = [study for study in studies if any(row.metric == "one_word_changed" and row.texts for row in study.rows)]
    found = {study.concept.name: study.concept.one_word_prompts for study in asked if study.concept is not None}
    return {
        f"One-word prompts of {name}": Table.of(
            "The columns of the figures of one-word completions.",
            [["prompt", "text"], *([str(number), prompt] for number, prompt in enumerate(prompts, start=1))],
        )
        for name, prompts in found.items()
    }


def clipped(text: str, length: int) -> str:
    """A text, cut where it is longer than a number of characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _concepts(rows: Sequence[Row], profile: Profile | None) -> list[Concept]:
    """The built-in concepts that rows name, and the profile's; a name in results is never taken for a path."""
    found = [] if profile is None else [load_concept(profile.concept, side) for side in get_args(Side)]
    wanted = {(row.concept, row.toward) for row in rows}
    sides = [(name, side) for name in builtin_concepts() for side in get_args(Side) if (name, side) in wanted]
    return [load_concept(name, side) for name, side in sides] + found


def _part(study: Study, neutral_bound: float, chosen_on_development: bool) -> StudyPart:
    samples = samples_of(study)
    maps = tuple(found for build in (success_map, damage_map) if (found := build(study)) is not None)
    return StudyPart(
        study,
        verdict_of(study, neutral_bound),
        maps,
        samples,
        Table.of("Exactly what was added in each cell.", vector_table(study)),
        tuple(limits_of(study, samples, chosen_on_development)),
    )


def _is_chosen(study: Study, rows: Sequence[Row], neutral_bound: float) -> bool:
    """Whether the study has a cell that was chosen on the development split and reported on the test split."""
    _, *lines = selection_summary(study.rows, rows, neutral_bound)
    return any(ABSENT not in line for line in lines)


def _gate(report: GateReport) -> GatePart:
    caption = "The baseline's value and this run's. Changes beyond chance and margin are marked."
    return GatePart(Table.of(caption, verdict_table(report)), tuple(clipped(line, 2000) for line in remarks(report)))


def _facts(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    facts = {
        "Model": _named(row.model for row in rows),
        "Concept": _named(row.concept for row in rows),
        "Towards": _named(row.toward for row in rows),
        "Rollouts": _named(str(row.measurement.get("rollouts", ABSENT)) for row in rows),
        "Seed": _named(str(row.seed) for row in rows),
        "Run": _named(row.run for row in rows),
    }
    return tuple(facts.items())


def _named(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return ", ".join(clipped(name, 80) for name in found[:4]) + (
        f" and {len(found) - 4} more" if len(found) > 4 else ""
    )
