"""From rows to configurations, and the circumstances that two of them have to share to be compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from steering.grouping import grouped
from steering.hashing import json_hash
from steering.results import NEUTRAL_BUDGET, NORM_OF, OF_SAE, OUTCOMES, SAE, UNSTEERED, Configuration, Row, without


def configurations(rows: Sequence[Row]) -> list[Configuration]:
    """What was measured, by circumstances: the unsteered model first, then by method and layer."""
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.configuration, {})[row.metric] = row
    return sorted(map(Configuration, found.values()), key=_order)


def _order(configuration: Configuration) -> tuple[Any, ...]:
    row = configuration.row
    layer = -1 if row.layer is None else row.layer
    return (shared(row), row.method != UNSTEERED, row.method, layer, row.multiplier)


def steered(rows: Sequence[Row]) -> list[Configuration]:
    """The configurations in which something is added."""
    return configurations([row for row in rows if row.is_steered])


def on_split(rows: Sequence[Row], split: str) -> list[Row]:
    """The rows that were measured on one split."""
    return [row for row in rows if row.split == split]


def told_apart_by(row: Row) -> dict[str, Any]:
    """What a run is told apart by, as far as its user chose it."""
    keys = ("model", "dtype", "concept", "toward", "neutral", "seed")
    return {key: getattr(row, key) for key in keys} | row.measurement | {"split": row.split}


def shared(row: Row) -> str:
    """All that decides whether cells can be compared, as one string.

    Besides the circumstances that is what goes by an equal name after a change: weights, texts, and what computed them.
    """
    return json.dumps([told_apart_by(row), _behind_names(row)], sort_keys=True)


def _behind_names(row: Row) -> dict[str, str]:
    hashes = {"weights": row.model_hash, "model settings": row.model_settings_hash, "texts": row.data_hash}
    return {name: value[:8] or "unknown" for name, value in hashes.items()} | {"device": row.device}


@dataclass(frozen=True)
class Runs:
    """The first column of a table whose rows were not all measured under the same circumstances.

    Attributes:
        differing: Names of the circumstances that are not the same in all rows; where there are none, there is no
            column.
    """

    differing: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Runs:
        """Find out in what some rows differ."""
        named = grouped(rows, lambda row: json.dumps(told_apart_by(row), sort_keys=True))
        found = [told_apart_by(alike[0]) for alike in named.values()]
        # What has an equal name is told apart by hashes; they are no help where the names do.
        unnamed = [_differing([_behind_names(row) for row in alike]) for alike in named.values()]
        return cls(tuple(dict.fromkeys([*_differing(found), *(key for keys in unnamed for key in keys)])))

    @property
    def heading(self) -> list[str]:
        """Of the column, or nothing."""
        return ["run"] if self.differing else []

    def cell(self, row: Row) -> list[str]:
        """Of the column for one row, or nothing."""
        circumstances = told_apart_by(row) | _behind_names(row)
        return [", ".join(f"{key} {circumstances.get(key, '-')}" for key in self.differing)] if self.differing else []


def _differing(entries: Sequence[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(key for entry in entries for key in entry)
    return [key for key in names if len({json.dumps(entry.get(key)) for entry in entries}) > 1]


def labels(cells: Sequence[Row]) -> list[str]:
    """A name for each cell that no other cell of its run at its layer has: of its method, or of the SAE.

    To the name is added what tells cells at one layer apart, and at every layer: the dose that was asked for, and where
    that is not enough, a hash of the settings. Where the same was asked for with another SAE, the later ones have a
    number. An attempt that gave no vector has the name of what it would have been.

    Args:
        cells: One row of each cell.
    """
    places = [(shared(row), row.layer) for row in cells]
    names = [str(row.parameters.get("sae", SAE)) if row.method == SAE else row.method for row in cells]
    for detail in (_dose, _digest):
        names = _with_detail(names, places, cells, [detail(row) for row in cells])
    return _numbered(names, places, cells)


def _with_detail(
    names: Sequence[str], places: Sequence[Hashable], cells: Sequence[Row], details: Sequence[str]
) -> list[str]:
    """The names, to which a detail is added where it tells cells of one name at one place apart."""
    details_of: dict[tuple[str, Hashable], set[str]] = {}
    for name, place, detail, row in zip(names, places, details, cells, strict=True):
        details_of.setdefault((name, place), set()).update([] if row.lacks_vector else [detail])
    shared_names = {name for (name, _), several in details_of.items() if len(several) > 1}
    pairs = zip(names, details, strict=True)
    return [f"{name} {detail}" if name in shared_names else name for name, detail in pairs]


def _numbered(names: Sequence[str], places: Sequence[Hashable], cells: Sequence[Row]) -> list[str]:
    """The names, with a number at the second and later of one name at one place."""
    times: Counter[tuple[str, Hashable]] = Counter()
    numbered = []
    for name, place, row in zip(names, places, cells, strict=True):
        times[name, place] += not row.lacks_vector
        numbered.append(f"{name} #{times[name, place]}" if times[name, place] > 1 else name)
    return numbered


def _dose(row: Row) -> str:
    budget, reference = row.parameters.get(NEUTRAL_BUDGET), row.parameters.get(NORM_OF)
    words = f"×{row.asked_multiplier:g}" if budget is None else f"budget {budget:g}"
    return f"{words}, norm of {reference.get('construction')}" if isinstance(reference, dict) else words


def _digest(row: Row) -> str:
    return json_hash([without(row.parameters, OUTCOMES | OF_SAE), row.set_multiplier])[:8]
