"""From rows to what a report judges: the cells of a study, with p values that are adjusted over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steering.concepts import TEST, Concept
from steering.grouping import grouped
from steering.results import NEUTRAL_CHANGE, SAE, SUCCESS, UNSTEERED, Row
from steering.tables.adjustment import adjusted_p_values
from steering.tables.configurations import Runs, labels, on_split, shared, steered


@dataclass(frozen=True)
class StudyCell:
    """One steered cell.

    Attributes:
        label: The method's name, with its dose where the study has several of them at one layer.
        row: One of its rows, for what they share.
        success: Its P(success); None where that was not measured.
        neutral: Its change of the neutral loss; None where that was not measured.
        p_value: Of the paired test against the unsteered run, adjusted by Holm over the cells of the study that are no
            controls; None for controls, and where there was no test.
        p_control: Of the paired test against its control, adjusted in the same way.
        failures: Why metrics have no value.
    """

    label: str
    row: Row
    success: Row | None
    neutral: Row | None
    p_value: float | None
    p_control: float | None
    failures: tuple[str, ...]

    @property
    def layer(self) -> int:
        """Block whose output is steered."""
        return self.row.layer or 0


@dataclass(frozen=True)
class Study:
    """All cells that were measured under the same circumstances, on the test split.

    Attributes:
        name: What it is told apart from others by; empty where there is one only.
        rows: Of all methods, the unsteered run and SAEs included.
        unsteered: P(success) of the unsteered run; None where that was not measured.
        cells: By method, dose and layer.
        level: That adjusted p values are held against.
        concept: With its keywords, where it could be loaded.
    """

    name: str
    rows: tuple[Row, ...]
    unsteered: Row | None
    cells: tuple[StudyCell, ...]
    level: float
    concept: Concept | None

    @property
    def tested(self) -> list[StudyCell]:
        """The cells that are no controls and were tested against the unsteered run."""
        return [cell for cell in self.cells if cell.p_value is not None]

    @property
    def controls(self) -> list[StudyCell]:
        """The cells that are there for comparison only."""
        return [cell for cell in self.cells if cell.row.is_control]

    def steers(self, cell: StudyCell) -> bool:
        """Whether P(success) is above the unsteered run's by the adjusted test."""
        return cell.p_value is not None and cell.p_value < self.level

    def exceeds_control(self, cell: StudyCell) -> bool:
        """Whether P(success) is above the control's by the adjusted test."""
        return cell.p_control is not None and cell.p_control < self.level


def studies_of(rows: Sequence[Row], level: float, concepts: Sequence[Concept] = ()) -> list[Study]:
    """The studies among some rows, in the order in which they were begun.

    Args:
        rows: Of one or several runs; those of the development split are left out.
        level: That adjusted p values are held against.
        concepts: To find keywords in; one belongs to a study whose concept and side have its name.
    """
    groups = grouped(on_split(rows, TEST), shared)
    runs = Runs.of([group[0] for group in groups.values()])
    known: dict[tuple[str, str], Concept] = {(concept.name, concept.toward): concept for concept in concepts}
    return [
        Study(
            name="".join(runs.cell(group[0])),
            rows=tuple(group),
            unsteered=next((row for row in group if row.method == UNSTEERED and _is_success(row)), None),
            cells=_cells(group),
            level=level,
            concept=known.get((group[0].concept, group[0].toward)),
        )
        for group in groups.values()
        if any(row.method != SAE for row in group)
    ]


def _is_success(row: Row) -> bool:
    return row.metric == SUCCESS and row.value is not None


def _cells(rows: Sequence[Row]) -> tuple[StudyCell, ...]:
    found = steered(rows)
    firsts = [configuration.row for configuration in found]
    p_values, p_controls = adjusted_p_values(rows, "p_value"), adjusted_p_values(rows, "p_control")
    cells = []
    for configuration, row, label in zip(found, firsts, labels(firsts), strict=True):
        success = configuration.get(SUCCESS)
        cells.append(
            StudyCell(
                label=label,
                row=row,
                success=configuration.measured(SUCCESS),
                neutral=configuration.measured(NEUTRAL_CHANGE),
                p_value=None if success is None else p_values.get(success.key),
                p_control=None if success is None else p_controls.get(success.key),
                failures=tuple(
                    dict.fromkeys(row.reason for row in configuration.rows.values() if row.status == "failed")
                ),
            )
        )
    return _ordered(cells)


def _ordered(cells: Sequence[StudyCell]) -> tuple[StudyCell, ...]:
    """A method's doses by their size, the rest as it comes."""
    methods = list(dict.fromkeys(cell.row.method for cell in cells))
    doses = {cell.label: cell.row.multiplier for cell in reversed(cells)}  # of the first cell of each label
    return tuple(sorted(cells, key=lambda cell: (methods.index(cell.row.method), doses[cell.label])))
