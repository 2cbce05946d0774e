"""Tables of what was measured, for people: lists of lines of strings, the headings first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from steering.results import NEGATIVE_CHANGE, NEUTRAL_CHANGE, POSITIVE_CHANGE, SAE, SUCCESS, UNSTEERED, Row
from steering.tables import wording
from steering.tables.adjustment import adjusted_p_values, p_values
from steering.tables.configurations import Runs, configurations, shared
from steering.tables.wording import ABSENT

#: Columns of the summary, each a metric and its heading.
_COLUMNS = (
    (SUCCESS, f"{wording.HEADINGS[SUCCESS]} [95 % CI]"),
    *((metric, wording.HEADINGS[metric]) for metric in (POSITIVE_CHANGE, NEGATIVE_CHANGE, NEUTRAL_CHANGE)),
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


def summary(
    rows: Sequence[Row],
    verdicts: Mapping[tuple[str, int], str] | None = None,
    among: Sequence[Row] | None = None,
    runs: Runs | None = None,
) -> list[list[str]]:
    """One line for each configuration, the unsteered one first, under a line of headings.

    Intervals are at 95 %; p is one-sided and paired with the unsteered rollouts, "p control" with those of the plan's
    control. "norm" is that of what is added: the vector's times the multiplier. A dash stands for what was not
    measured.

    Who looks at many cells finds one with a small p by chance. Where several cells that are not controls were measured
    under the same circumstances, their p values are therefore adjusted over all of these by Holm's method (Holm 1979,
    Scandinavian Journal of Statistics 6: 65-70), and the headings say so. The p values of controls are left out of
    this, and stand in parentheses, unadjusted.

    Args:
        rows: Of one or several runs.
        verdicts: (method, layer) -> what became of the claim; adds a last column.
        among: All rows that were measured, where `rows` are a selection of them: what p values are adjusted over does
            not depend on the selection. Columns of metrics that are not in the selection are left out.
        runs: First column, where the table stands among others; by default, what tells these rows apart.
    """
    rows = [row for row in rows if row.method != SAE]
    among = rows if among is None else among
    runs, p_values = runs or Runs.of(rows), (_PValues.of(among, "p_value"), _PValues.of(among, "p_control"))
    hidden = {row.metric for row in among} - {row.metric for row in rows}
    columns = [(metric, heading) for metric, heading in _COLUMNS if metric not in hidden]
    header = [*runs.heading, "method", "layer", "×", "norm"]
    for metric, heading in columns:
        header.append(heading)
        if metric == SUCCESS:
            header += [values.heading for values in p_values]
    lines = [[*header, *([] if verdicts is None else ["claim"])]]
    for configuration in configurations(rows):
        row = configuration.row
        line = [*runs.cell(row), *_dose(row)]
        for metric, _ in columns:
            line += _measured(row, metric, configuration.get(metric), p_values)
        if verdicts is not None:
            unclaimed = "no claim" if row.is_control else ""  # it may have been measured for another alone
            line.append("" if row.layer is None else verdicts.get((row.method, row.layer), unclaimed))
        lines.append(line)
    return lines


@dataclass(frozen=True)
class _PValues:
    """The p values of a column.

    Attributes:
        field: Of a row.
        own: Key of a row -> its p value.
        adjusted: Key of a row -> its adjusted p value; empty where no family has more than one cell.
    """

    field: str
    own: Mapping[tuple[object, ...], float]
    adjusted: Mapping[tuple[object, ...], float]

    @classmethod
    def of(cls, rows: Sequence[Row], field: Literal["p_value", "p_control"]) -> _PValues:
        adjusted = adjusted_p_values(rows, field)
        studies = {shared(row) for row in rows if row.key in adjusted}
        return cls(field, p_values(rows, field), adjusted if len(adjusted) > len(studies) else {})

    @property
    def heading(self) -> str:
        return {"p_value": "p", "p_control": "p control"}[self.field] + (" (Holm)" if self.adjusted else "")

    def cell(self, row: Row) -> str:
        value = self.own.get(row.key)
        if not self.adjusted or value is None:
            return wording.p_value(value)
        if row.key in self.adjusted:
            return wording.p_value(self.adjusted[row.key])
        return f"({wording.p_value(value)})"


def _dose(row: Row) -> list[str]:
    """Method, layer, multiplier and norm."""
    if row.method == UNSTEERED:
        return [row.method, "", "", ""]
    return [row.method, str(row.layer), wording.multiplier(row), wording.norm(row)]


def _measured(row: Row, metric: str, found: Row | None, p_values: Sequence[_PValues]) -> list[str]:
    """The cells of one metric; of the unsteered run, which is compared with nothing, only its own probability."""
    unsteered = row.method == UNSTEERED
    if metric == SUCCESS:
        tests = [("" if unsteered else ABSENT if found is None else values.cell(found)) for values in p_values]
        return [wording.proportion(found), *tests]
    if unsteered:
        return [""]
    return [wording.count(found) if metric == "one_word_changed" else wording.change(found)]


def sae_summary(
    rows: Sequence[Row], verdicts: Mapping[tuple[str, int], str] | None = None, runs: Runs | None = None
) -> list[list[str]]:
    """One line for each SAE whose quality was measured, under a line of headings; arguments as in `summary`."""
    rows = [row for row in rows if row.method == SAE]
    runs = runs or Runs.of(rows)
    header = [*runs.heading, "SAE", "layer", *(heading for _, heading in _SAE_COLUMNS)]
    lines = [[*header, *([] if verdicts is None else ["claim"])]]
    for configuration in configurations(rows):
        row = configuration.row
        names = [*runs.cell(row), str(row.parameters.get("sae", "")), str(row.layer)]
        explained, *others = (configuration.get(metric) for metric, _ in _SAE_COLUMNS)
        claim = [] if verdicts is None else [verdicts.get((SAE, row.layer or 0), "")]
        lines.append([*names, wording.proportion(explained), *map(wording.number, others), *claim])
    return lines


def feature_summary(rows: Sequence[Row], runs: Runs | None = None) -> list[list[str]]:
    """The heaviest features of each vector that is a sum of features, whatever its doses, under a line of headings.

    Controls are passed over: their features mean nothing. Arguments as in `summary`.
    """
    rows = [row for row in rows if row.features and not row.is_control]
    runs = runs or Runs.of(rows)
    lines = [[*runs.heading, "method", "layer", "feature", "weight", "description"]]
    found = [configuration.row for configuration in configurations(rows)]
    for row in {(shared(row), row.method, row.layer, row.vector_hash): row for row in found}.values():
        lines += [
            [*runs.cell(row), row.method, str(row.layer), str(entry.feature), f"{entry.weight:+.3f}", entry.description]
            for entry in row.features[:_FEATURES_SHOWN]
        ]
    return lines
