"""Tables that hold a cell against others: its controls, its dose, and the choice of its layer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from steering import stats
from steering.concepts import DEVELOPMENT, TEST
from steering.grouping import grouped
from steering.profiles import Profile
from steering.results import (
    CONSTRUCTION,
    DEVELOPMENT_CHANGE,
    NEUTRAL_BUDGET,
    NEUTRAL_CHANGE,
    OF_SAE,
    OUTCOMES,
    SUCCESS,
    Configuration,
    Row,
    without,
)
from steering.tables import wording
from steering.tables.adjustment import comes_from
from steering.tables.configurations import Runs, labels, on_split, shared, steered, told_apart_by
from steering.tables.wording import ABSENT

#: Parameters in which the vectors, or the doses, of one null distribution may differ: layers have SAEs of their own.
_VARYING = OUTCOMES | OF_SAE | {"seed"}


def control_summary(
    rows: Sequence[Row], among: Sequence[Row] | None = None, runs: Runs | None = None
) -> list[list[str]]:
    """One line for each cell that has controls, with what they reached, under a line of headings.

    "control" is the paired control's P(success) at the same layer. The null cells are all cells of the same
    circumstances that are controls of the same construction with the same parameters, whatever their seed and layer, at
    the same dose: the same multiplier that was asked for, or the same budget of neutral loss. "p empirical" is (1 +
    number of null cells that reach the cell's P(success) or more) / (1 + number of null cells), which is never 0
    (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9: 39); it cannot be below 1 /
    (1 + number). "other controls" are those at the same layer that are null cells of no cell shown.

    Args:
        rows: Of one or several runs.
        among: All rows that were measured, where `rows` are a selection of them; controls are looked for here.
        runs: As in `steering.tables.cells.summary`.
    """
    measured = _successes(rows if among is None else among)
    controls = grouped([row for row in measured if row.is_control], shared)
    cells = [row for row in _successes(rows) if not row.is_control and shared(row) in controls]
    paired = {row.key: _paired(row, controls[shared(row)]) for row in cells}
    nulls = {row.key: _null(paired[row.key], controls[shared(row)]) for row in cells}
    known = {other.key for null in nulls.values() for other in null}
    runs = runs or Runs.of(cells)
    header = ["method", "layer", "P(success)", "control", "null cells", "highest", "p empirical", "other controls"]
    lines = [[*runs.heading, *header]]
    for row, name in zip(cells, labels(cells), strict=True):
        at_layer = [control for control in controls[shared(row)] if control.layer == row.layer]
        others = [control for control in at_layer if control.key not in known]
        others_reached = ", ".join(f"{other.method} {wording.number(other)}" for other in others)
        if not row.control and not others_reached:
            continue
        lines.append(
            [
                *(*runs.cell(row), name, str(row.layer), wording.number(row)),
                *(wording.number(paired[row.key]), *_against(row, nulls[row.key]), others_reached or ABSENT),
            ]
        )
    return lines


def _successes(rows: Sequence[Row]) -> list[Row]:
    """The success of each steered cell for which it was measured."""
    return [row for configuration in steered(rows) if (row := configuration.measured(SUCCESS)) is not None]


def _paired(row: Row, controls: Sequence[Row]) -> Row | None:
    """The cell that a row was held against; of several that it may have been, the last with the nearest added norm."""
    wanted = (row.control, row.layer, row.parameters.get(NEUTRAL_BUDGET))
    named = [other for other in controls if (other.method, other.layer, other.parameters.get(NEUTRAL_BUDGET)) == wanted]
    held = [other for other in named if _gives(row, other)]
    return min(reversed(held), key=lambda other: abs((other.added_norm or 0.0) - (row.added_norm or 0.0)), default=None)


def _gives(row: Row, control: Row) -> bool:
    """Whether a row's p value can come from a control's items: a control may have been measured at several doses."""
    if row.p_control is None or not row.items or len(control.items) != len(row.items):
        return False
    return comes_from(row.p_control, row, control)


def _null(paired: Row | None, controls: Sequence[Row]) -> list[Row]:
    """The null cells of a row that was held against a control."""
    return [] if paired is None else [other for other in controls if _same_null(other, paired)]


def _same_null(row: Row, control: Row) -> bool:
    settings, of_control = (without(each.parameters, _VARYING) for each in (row, control))
    is_same = CONSTRUCTION in settings and settings == of_control
    return is_same and _same_dose(row.set_multiplier, control.set_multiplier)


def _same_dose(multiplier: float | None, other: float | None) -> bool:
    """Whether two multipliers are the same, as far as they were asked for; parameters, which agree, say the rest."""
    return multiplier is None or other is None or math.isclose(multiplier, other, rel_tol=1e-3)


def _against(row: Row, null: Sequence[Row]) -> list[str]:
    """Number of null cells, the highest of them, and the empirical p value."""
    if not null:
        return ["0", ABSENT, ABSENT]
    values = [other.value for other in null if other.value is not None]
    p_value = stats.empirical_p(row.value or 0.0, np.array(values))
    return [str(len(values)), f"{max(values):.3f}", wording.p_value(p_value)]


def dose_summary(rows: Sequence[Row], runs: Runs | None = None) -> list[list[str]]:
    """One line for each cell whose multiplier was chosen to reach a budget of neutral loss, under a line of headings.

    The multiplier was chosen on development documents; "optimism" is how much more loss it costs on the test documents
    than it did there. Losses are changes, nats per token. `runs` is as in `steering.tables.cells.summary`.
    """
    rows = [row for row in on_split(rows, TEST) if NEUTRAL_BUDGET in row.parameters and not row.lacks_vector]
    runs = runs or Runs.of(rows)
    header = ["method", "layer", "×", "norm", "budget", "Δ loss development", "Δ loss test", "optimism"]
    lines = [[*runs.heading, *header, "P(success) [95 % CI]"]]
    for configuration in steered(rows):
        row, measured = configuration.row, configuration.get(NEUTRAL_CHANGE)
        development = row.parameters.get(DEVELOPMENT_CHANGE)
        optimism = _minus(measured.value if measured else None, development)
        lines.append(
            [
                *(*runs.cell(row), row.method, str(row.layer), wording.multiplier(row), wording.norm(row)),
                *map(wording.signed, (row.parameters[NEUTRAL_BUDGET], development)),
                *(wording.change(measured), wording.signed(optimism), wording.proportion(configuration.get(SUCCESS))),
            ]
        )
    return lines


def _minus(value: float | None, other: float | None) -> float | None:
    """A difference, where both were measured."""
    return None if value is None or other is None else value - other


def selection_summary(
    rows: Sequence[Row],
    among: Sequence[Row] | None = None,
    neutral_bound: float = Profile.neutral_bound,
    runs: Runs | None = None,
) -> list[list[str]]:
    """One line for each method: the layer and dose that development data choose, and what they reach on test data.

    Chosen is the highest P(success) among the cells for which the upper end of the interval of the neutral loss change
    is below a bound, both on the development split; of equals, the lowest layer. "optimism" is the development value
    minus the test value of the chosen cell. "best on test" is what the same rule chooses where it looks at the test
    split itself: a value that nobody should report. The two splits belong together where model, vector, device, seed
    and all settings of the measurement are the same; their texts differ, and are not compared. Of texts that changed
    under their name, those that were measured last count.

    Args:
        rows: Of both splits; a row that does not say was measured on the test split. Controls are passed over.
        among: All rows that were measured, where `rows` are a selection of them: the choice is among these.
        neutral_bound: Of the neutral loss change, nats per token.
        runs: As in `steering.tables.cells.summary`; of development rows.
    """
    among = rows if among is None else among
    wanted = {(_choice(row), row.method) for row in rows}
    latest = {(_choice(row), row.method, row.split): row.data_hash for row in among}
    found: dict[tuple[str, str], dict[str, list[Configuration]]] = {}
    for split in (DEVELOPMENT, TEST):
        for configuration in steered(on_split(among, split)):
            row = configuration.row
            key = (_choice(row), row.method)
            if not row.is_control and key in wanted and row.data_hash == latest[*key, split]:
                found.setdefault(key, {DEVELOPMENT: [], TEST: []})[split].append(configuration)
    compared = {key: splits for key, splits in found.items() if splits[DEVELOPMENT]}
    shown = [configuration.row for splits in compared.values() for configuration in splits[DEVELOPMENT]]
    runs = runs or Runs.of(shown)
    header = ["method", "layer", "×", "P development", "P test [95 % CI]", "optimism", "best on test"]
    lines = [[*runs.heading, *header]]
    for (_, method), splits in compared.items():
        run = runs.cell(splits[DEVELOPMENT][0].row)
        lines.append([*run, method, *_selected(splits[DEVELOPMENT], splits[TEST], neutral_bound)])
    return lines


def _choice(row: Row) -> str:
    """What development and test rows of one choice share: everything but the texts that the split decides."""
    computed = (row.model_hash, row.model_settings_hash, row.device)
    return json.dumps([told_apart_by(row) | {"split": None}, computed], sort_keys=True)


def _selected(development: Sequence[Configuration], test: Sequence[Configuration], neutral_bound: float) -> list[str]:
    chosen, naive = _best(development, neutral_bound), _best(test, neutral_bound)
    best = ABSENT if naive is None else f"{wording.number(naive)} (layer {naive.layer}, ×{wording.multiplier(naive)})"
    if chosen is None:
        return [ABSENT] * 5 + [best]
    reported = next((found.get(SUCCESS) for found in test if _cell(found.row) == _cell(chosen)), None)
    optimism = _minus(chosen.value, reported.value if reported else None)
    return [
        str(chosen.layer),
        wording.multiplier(chosen),
        wording.number(chosen),
        wording.proportion(reported),
        wording.signed(optimism),
        best,
    ]


def _cell(row: Row) -> tuple[int | None, float, str]:
    return row.layer, row.multiplier, row.vector_hash


def _best(configurations: Sequence[Configuration], neutral_bound: float) -> Row | None:
    """The highest success among the cells whose neutral loss change is surely below the bound."""
    measured = [(found.measured(SUCCESS), found.measured(NEUTRAL_CHANGE)) for found in configurations]
    allowed = [
        success
        for success, change in measured
        if success and change and change.high is not None and change.high < neutral_bound
    ]
    return max(allowed, key=lambda row: (row.value, -(row.layer or 0)), default=None)
