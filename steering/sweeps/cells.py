"""What a benchmark test stands for, what was measured of it, and which of them are measured together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from steering.methods import needs_sae
from steering.metrics import Score
from steering.profiles import MethodPlan, Profile
from steering.results import Row, cell_id


@dataclass(frozen=True)
class Cell:
    """What one benchmark test stands for.

    Attributes:
        method: Name of one of the profile's plans.
        layer: Block whose output is steered, from 0.
        multiplier: Dose, as the plan gives it.
    """

    method: str
    layer: int
    multiplier: float

    @property
    def id(self) -> str:
        """Of the benchmark's test."""
        return cell_id(self.method, self.layer)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was measured in one cell.

    Attributes:
        cell: The cell; None for the unsteered run.
        scores: Metric name -> score, of the metrics that could be measured.
        rows: What was written to the journal, failed and skipped metrics included.
        construction_seconds: Time to construct the vector from the activations.
        evaluation_seconds: Time to measure all metrics: of cells that were measured together, an equal share.
        was_measured_earlier: Whether an earlier run measured it, so that it took no time.
    """

    cell: Cell | None
    scores: dict[str, Score]
    rows: tuple[Row, ...]
    construction_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    was_measured_earlier: bool = False

    @property
    def seconds(self) -> float:
        """Time that the cell took."""
        return self.construction_seconds + self.evaluation_seconds

    @property
    def failures(self) -> list[str]:
        """Reasons of the metrics that failed, each once."""
        return list(dict.fromkeys(row.reason for row in self.rows if row.status == "failed"))


def control_of(profile: Profile, cell: Cell) -> Cell | None:
    """The cell of the control that a cell's plan names, or None where it names none."""
    name = profile.plan(cell.method).control
    return Cell(name, cell.layer, profile.plan(name).multiplier) if name else None


def plans_of(profile: Profile, method: str) -> list[MethodPlan]:
    """The plans whose vectors a plan's cells need: its own, the one whose norm it takes, and so on."""
    plans = [profile.plan(method)]
    while plans[-1].norm_of:
        plans.append(profile.plan(plans[-1].norm_of))
    return plans


def norm_plan(profile: Profile, method: str) -> MethodPlan | None:
    """The plan to the norm of whose vectors a plan's are scaled; those between are themselves scaled to its norm."""
    others = plans_of(profile, method)[1:]
    return others[-1] if others else None


def reads_sae(profile: Profile, method: str) -> bool:
    """Whether a plan's cells need an SAE: for their own vectors, those whose norm they take, or for their controls."""
    control = profile.plan(method).control
    own = any(needs_sae(plan.method) for plan in plans_of(profile, method))
    return own or bool(control and reads_sae(profile, control))


def measurable(profile: Profile, cells: Iterable[Cell], sae_layers: Collection[int]) -> list[Cell]:
    """Those of some cells that need no SAE, or are at a layer that has one."""
    return [cell for cell in cells if cell.layer in sae_layers or not reads_sae(profile, cell.method)]


def with_controls(profile: Profile, cells: Sequence[Cell]) -> list[Cell]:
    """Cells and the controls that they need, by layer, each control before the cells that are held against it."""
    ordered: dict[Cell, None] = {}
    for cell in sorted(cells, key=lambda cell: cell.layer):
        needed = [cell]
        while (control := control_of(profile, needed[-1])) is not None:
            needed.append(control)
        for each in reversed(needed):
            ordered.setdefault(each)
    return list(ordered)
