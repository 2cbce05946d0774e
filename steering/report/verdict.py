"""What a study found, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering import stats
from steering.grouping import grouped
from steering.report.studies import Study, StudyCell
from steering.tables import wording
from steering.tables.adjustment import p_values
from steering.tables.controls import controls_above_unsteered
from steering.tables.detectable import detectable


@dataclass(frozen=True)
class MethodVerdict:
    """What became of one method.

    Attributes:
        method: Its name, with its dose where there are several.
        steers: Whether it steers at any layer.
        sentences: What was found, what it costs, and what was not found.
    """

    method: str
    steers: bool
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class StudyVerdict:
    """What became of a study.

    Attributes:
        headline: In a few words.
        lead: The same with the numbers and the test.
        methods: Of those that are no controls, in their order.
        remarks: On controls, on what may have been missed, and on cells that failed.
    """

    headline: str
    lead: str
    methods: tuple[MethodVerdict, ...]
    remarks: tuple[str, ...]


def verdict_of(study: Study, neutral_bound: float) -> StudyVerdict:
    """Say which methods steer at which layers, by Holm-adjusted paired tests, what it costs, and what was not found.

    Args:
        study: The cells.
        neutral_bound: Bound of the neutral loss change that costs are held against, nats per token.
    """
    cells = [cell for cell in study.cells if not cell.row.is_control]
    steering = [cell for cell in study.tested if study.steers(cell)]
    by_label = grouped(cells, lambda cell: cell.label)
    methods = tuple(_method(study, label, group, neutral_bound) for label, group in by_label.items())
    remarks = [_missed(study), _controls(study), _failed(study)]
    return StudyVerdict(
        _headline(study, steering, cells),
        _lead(study, steering),
        methods,
        tuple(remark for remark in remarks if remark),
    )


def best_cell(cells: Sequence[StudyCell]) -> StudyCell | None:
    """The cell with the highest P(success); of equals, the one at the lowest layer."""
    measured = [cell for cell in cells if cell.success is not None]
    return max(measured, key=lambda cell: (_value(cell), -cell.layer), default=None)


def _value(cell: StudyCell) -> float:
    return 0.0 if cell.success is None or cell.success.value is None else cell.success.value


def _headline(study: Study, steering: Sequence[StudyCell], cells: Sequence[StudyCell]) -> str:
    if not study.tested:
        return "Nothing could be tested."
    if not steering:
        return "No method was found to steer."
    found = {cell.row.method for cell in steering}  # a method at several doses is one
    methods = len({cell.row.method for cell in cells})
    steers = f"{len(found)} of {wording.counted(methods, 'method')} {'steers' if len(found) == 1 else 'steer'}"
    if all(cell.p_control is None for cell in steering):
        return f"{steers}."
    beyond = {cell.row.method for cell in steering if study.exceeds_control(cell)}
    if not beyond:
        return f"{steers}, but {'it is not' if len(found) == 1 else 'none is'} shown to be above its control."
    if len(found) == 1:
        return f"{steers}, also above its control."
    return f"{steers}, {len(beyond)} of them also above {'its' if len(beyond) == 1 else 'their'} control."


def _lead(study: Study, steering: Sequence[StudyCell]) -> str:
    tested = len(study.tested)
    if study.unsteered is None:
        return "P(success) of the unsteered run was not measured, so no cell can be compared with it."
    if not tested:
        return "No cell that is not a control has a test against the unsteered run."
    return (
        f"In {len(steering)} of {wording.counted(tested, 'cell')} (a method at a layer), P(success) is above "
        f"the {wording.proportion(study.unsteered)} of the unsteered run, by exact one-sided paired tests at level "
        f"{study.level:g}, Holm-adjusted over {_all(tested)}; n = {study.unsteered.n} rollouts in each."
    )


def _method(study: Study, label: str, cells: Sequence[StudyCell], neutral_bound: float) -> MethodVerdict:
    tested = [cell for cell in cells if cell.p_value is not None]
    steering = [cell for cell in tested if study.steers(cell)]
    if not tested:
        return MethodVerdict(label, False, ("It has no test against the unsteered run.",))
    sentences = []
    count = f"{len(steering)} of {wording.counted(len(tested), 'layer')}"
    if steering:
        sentences.append(f"Steers at {count}: {wording.layer_list(cell.layer for cell in steering)}.")
    else:
        tried = "the one layer tested" if len(tested) == 1 else f"any of {len(tested)} layers"
        sentences.append(f"Not found to steer at {tried}.")
    missing = [cell.layer for cell in tested if not study.steers(cell)]
    if steering and missing:
        sentences.append(f"Not found at {wording.counted_layers(missing)}.")
    sentences += [_highest(best_cell(tested)), *_beyond_control(study, steering), *_cost(steering, neutral_bound)]
    return MethodVerdict(label, bool(steering), tuple(sentences))


def _highest(cell: StudyCell | None) -> str:
    assert cell is not None  # a tested cell was measured
    return (
        f"P(success) is highest at layer {cell.layer}: {wording.proportion(cell.success)}, "
        f"adjusted p {_p(cell.p_value)}."
    )


def _beyond_control(study: Study, steering: Sequence[StudyCell]) -> list[str]:
    held = [cell for cell in steering if cell.p_control is not None]
    if not held:
        return ["No control was tested for comparison."] if steering else []
    beyond = [cell for cell in held if study.exceeds_control(cell)]
    named = ", ".join(dict.fromkeys(cell.row.control for cell in held))
    if len(held) == 1:
        return [f"It is {'also' if beyond else 'not shown to be'} above its control {named} there."]
    return [f"Also above its control {named} at {len(beyond)} of these {len(held)}."]


def _cost(steering: Sequence[StudyCell], neutral_bound: float) -> list[str]:
    rows = [cell.neutral for cell in steering if cell.neutral is not None]
    values = [row.value for row in rows if row.value is not None]
    if not values:
        return ["Its cost on neutral text was not measured."] if steering else []
    low, high = (wording.signed(value) for value in (min(values), max(values)))
    kept = sum(stats.mean_upper_bound(np.array(row.items)) < neutral_bound for row in rows if row.items)
    change = low if low == high else f"{low} to {high}"
    statement = (
        f"Where it steers, it changes the loss on neutral text by {change} nats per token; by less than "
        f"{neutral_bound:g} with 95 % confidence at {kept} of {len(rows)}."
    )
    if absent := len(steering) - len(values):
        statement += f" At {absent} where it steers, that could not be measured."
    return [statement]


def _missed(study: Study) -> str:
    smallest_rise = detectable_in(study)
    if not smallest_rise or all(map(study.steers, study.tested)):
        return ""
    return f"Finding nothing does not prove that there is nothing. {smallest_rise}"


def detectable_in(study: Study) -> str:
    """What the study's rollouts can find, at the level that its cells share; empty where nothing was tested."""
    unsteered = study.unsteered
    if unsteered is None or unsteered.value is None or not unsteered.n or not study.tested:
        return ""
    return detectable(unsteered.n, unsteered.value, study.level, len(study.tested))


def _controls(study: Study) -> str:
    counting = p_values(study.rows, "p_value")
    of_controls = [counting.get(cell.success.key) for cell in study.controls if cell.success is not None]
    return controls_above_unsteered(of_controls, study.level)


def _failed(study: Study) -> str:
    incomplete = [
        f"{cell.label} at layer {cell.layer} ({'; '.join(cell.failures)})" for cell in study.cells if cell.failures
    ]
    if not incomplete:
        return ""
    return f"Of {wording.counted(len(incomplete), 'cell')}, something could not be measured: {', '.join(incomplete)}."


def _all(count: int) -> str:
    return "this one cell" if count == 1 else f"all {count}"


def _p(value: float | None) -> str:
    formatted = wording.p_value(value)
    return formatted if formatted.startswith("<") else f"= {formatted}"
