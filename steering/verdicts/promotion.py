"""From rows of results to a baseline, and what one baseline changes about another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from steering.concepts import TEST
from steering.errors import ResultsError, require_known
from steering.grouping import grouped
from steering.results import SCALED_MULTIPLIER, SUCCESS, Configuration, Row, cell_id
from steering.verdicts.baselines import GATED, SCHEMA_VERSION, Baseline, BaselineCell, BaselineScore
from steering.verdicts.comparability import NAMES, circumstances, plain, settings, shown
from steering.verdicts.selection import is_chosen

#: Rollouts that a later run needs, where the promotion does not say otherwise and has as many itself.
REQUIRED_ROLLOUTS = 200
#: What all cells of a baseline share.
_SHARED = ("model", "model_hash", "dtype", "concept", "toward", "neutral", "data_hash", "seed", "measurement")

#: What is said of all cells of a baseline.
_FIELDS = ("row_schema_version", *_SHARED, "required_rollouts", "margins", "levels", "versions")


def measured_cells(rows: Sequence[Row]) -> dict[tuple[str, int], list[Configuration]]:
    """(method, layer) -> what was measured of that cell under any circumstances, the last of the rows last.

    Rows of the unsteered run and of SAEs are left out.
    """
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        if row.is_steered and row.layer is not None:
            earlier = found.pop(row.configuration, {})
            found[row.configuration] = earlier | {row.metric: row}
    return grouped(map(Configuration, found.values()), lambda measured: (measured.row.method, measured.row.layer or 0))


def promote(
    rows: Sequence[Row],
    *,
    methods: Collection[str] = (),
    layers: Collection[int] = (),
    required_rollouts: int | None = None,
    margins: Mapping[str, float] | None = None,
) -> Baseline:
    """Make a baseline of measured cells; controls and cells of the development split are left out.

    Args:
        rows: Of one or several runs, all under the same circumstances. Of a cell that was measured more than once, the
            last measurement counts.
        methods: Take these only; empty takes all.
        layers: Likewise.
        required_rollouts: Fewest that a later run needs; by default 200, or as many as there are.
        margins: Gated metric -> change for the worse that is tolerated, where it is not to be the default.

    Raises:
        UnknownNameError: A method or a layer was not measured, or no metric has such a name.
        ResultsError: There is nothing to promote, a cell failed, or the rows contradict each other.
    """
    test_rows = [row for row in rows if not row.is_control and row.split == TEST]
    found = measured_cells(test_rows)
    controls = sorted({row.method for row in rows if row.is_control}.intersection(methods))
    hint = f"Controls are left out of baselines: {', '.join(controls)}." if controls else ""
    require_known("method", methods, {method for method, _ in found}, hint)
    require_known("layer", layers, {layer for _, layer in found})
    chosen = {key: entries for key, entries in sorted(found.items()) if is_chosen(key, methods, layers)}
    if not chosen:
        raise ResultsError("there is no steered cell among the results: only controls or the unsteered run")
    _check_agreement(chosen)
    cells = tuple(_cell(entries[-1]) for entries in chosen.values())
    first = next(iter(chosen.values()))[-1].row
    banked = min((cell.scores[SUCCESS].n for cell in cells if SUCCESS in cell.scores), default=REQUIRED_ROLLOUTS)
    required = min(REQUIRED_ROLLOUTS, banked) if required_rollouts is None else required_rollouts
    if required > banked:
        raise ResultsError(f"{required} rollouts cannot be required: the baseline itself would have {banked}")
    require_known("gated metric", margins or (), {metric.name for metric in GATED})
    return Baseline(
        schema_version=SCHEMA_VERSION,
        row_schema_version=first.schema_version,
        **{key: plain(getattr(first, key)) for key in _SHARED},
        required_rollouts=required,
        margins={metric.name: metric.margin for metric in GATED} | dict(margins or {}),
        levels={metric.name: metric.level for metric in GATED},
        versions=_versions([entries[-1].row for entries in chosen.values()]),
        cells=cells,
    )


def with_others(new: Baseline, old: Baseline) -> Baseline:
    """Add to a baseline the cells of an older one that it does not hold; all are held to the older one's margins.

    Raises:
        ResultsError: They were measured in other circumstances, or with other versions of what computes.
    """
    new = dataclasses.replace(new, margins=old.margins, required_rollouts=old.required_rollouts)
    if changed := _changed_fields(old, new, [key for key in _FIELDS if key not in NAMES]):
        raise ResultsError(f"the other cells cannot be kept: {'; '.join(changed)}. Promote results of all cells.")
    cells = {cell.key: cell for cell in (*old.cells, *new.cells)}
    return dataclasses.replace(new, cells=tuple(cells[key] for key in sorted(cells)))


def changes(old: Baseline, new: Baseline) -> list[str]:
    """What a baseline says otherwise than the one before it, one line each; empty where nothing changed."""
    lines = _changed_fields(old, new, _FIELDS)
    before, after = ({cell.key: cell for cell in baseline.cells} for baseline in (old, new))
    for key in sorted(before | after):
        if key not in after:
            lines.append(f"{cell_id(*key)}: removed")
        elif key not in before:
            lines.append(f"{cell_id(*key)}: added")
        else:
            lines += [f"{cell_id(*key)}: {change}" for change in _cell_changes(before[key], after[key])]
    return lines


def _changed_fields(old: Baseline, new: Baseline, keys: Sequence[str]) -> list[str]:
    return [f"{key}: {difference}" for key in keys if (difference := _difference(getattr(old, key), getattr(new, key)))]


def _check_agreement(cells: Mapping[tuple[str, int], list[Configuration]]) -> None:
    """Refuse rows of which some cannot belong to the same baseline as others."""
    rows = [entry.row for entries in cells.values() for entry in entries]
    models = [(row.run, circumstances(row) | {"model_settings_hash": row.model_settings_hash}) for row in rows]
    _check_alike("the results", models)
    for key, entries in cells.items():
        made = [entry.row for entry in entries if not entry.row.lacks_vector]
        _check_alike(
            cell_id(*key),
            [(row.run, settings(row.parameters) | {"multiplier": _given_multiplier(row)}) for row in made],
        )


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    """Package -> version that measured; all of them, where rows of several were joined or resumed."""
    names = dict.fromkeys(name for row in rows for name in row.versions)
    return {name: ", ".join(dict.fromkeys(row.versions.get(name, "not recorded") for row in rows)) for name in names}


def _given_multiplier(row: Row) -> float | None:
    """None where the multiplier follows from norms, as in a comparison."""
    return None if SCALED_MULTIPLIER in row.parameters else row.multiplier


def _check_alike(where: str, found: Sequence[tuple[str, dict[str, Any]]]) -> None:
    for key in sorted({key for _, entries in found for key in entries}):
        values = {json.dumps(entries.get(key), sort_keys=True): run for run, entries in found}
        if len(values) > 1:
            measured = ", ".join(f"{value} (run {run})" for value, run in values.items())
            remedy = "Promote one run, by `steering baseline promote --run`."
            if len(set(values.values())) == 1:
                remedy = "A baseline holds one for each cell: measure what is to be promoted into a new directory."
            raise ResultsError(f"{where} cannot be one baseline: {key} is {measured}. {remedy}")


def _cell(measured: Configuration) -> BaselineCell:
    row = measured.row
    gated = [found for metric in GATED if (found := measured.get(metric.name)) is not None]
    if failed := [entry for entry in gated if entry.status == "failed"]:
        raise ResultsError(
            f"{cell_id(row.method, row.layer)} failed and cannot be promoted: {failed[0].metric}: "
            f"{failed[0].reason}. Leave it out with --methods or --layers, or measure it anew."
        )
    if not gated:
        raise ResultsError(
            f"{cell_id(row.method, row.layer)}: no metric that the gate looks at was measured. Leave it out with "
            "--methods or --layers."
        )
    return BaselineCell(
        method=row.method,
        layer=row.layer or 0,
        multiplier=row.multiplier,
        parameters=plain(row.parameters),
        vector_hash=row.vector_hash,
        vector_norm=row.vector_norm,
        device=row.device,
        scores={
            entry.metric: BaselineScore(entry.value, entry.n, tuple(entry.items))
            for entry in gated
            if entry.value is not None
        },
    )


def _difference(old: Any, new: Any) -> str:
    """What changed of a value; of a table, its entries."""
    if old == new:
        return ""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(name for name in old | new if old.get(name) != new.get(name))
        return ", ".join(f"{name} {shown(old.get(name))} → {shown(new.get(name))}" for name in names)
    return f"{shown(old)} → {shown(new)}"


def _cell_changes(old: BaselineCell, new: BaselineCell) -> Iterator[str]:
    for key in ("multiplier", "parameters", "vector_hash", "vector_norm", "device"):
        if difference := _difference(getattr(old, key), getattr(new, key)):
            yield f"{key} {difference}"
    for metric in sorted(old.scores | new.scores):
        before, after = (_shown(cell.scores.get(metric)) for cell in (old, new))
        if old.scores.get(metric) != new.scores.get(metric):
            yield f"{metric} {before} → {after}"


def _shown(score: BaselineScore | None) -> str:
    return "not measured" if score is None else f"{score.value:.4f} (n = {score.n})"
