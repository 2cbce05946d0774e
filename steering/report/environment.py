"""Under which circumstances results were measured."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from steering.report.studies import Study
from steering.results import Row
from steering.tables import wording
from steering.tables.configurations import steered

_FIELDS = (
    ("model", "model"),
    ("model hash", "model_hash"),
    ("model settings hash", "model_settings_hash"),
    ("dtype", "dtype"),
    ("device", "device"),
    ("concept", "concept"),
    ("towards", "toward"),
    ("neutral documents", "neutral"),
    ("data hash", "data_hash"),
    ("seed", "seed"),
)
_PACKAGES = ("steering-bench", "numpy", "scipy", "statsmodels", "matplotlib")


def settings_table(rows: Sequence[Row]) -> list[list[str]]:
    """One line for each setting, under a line of headings; where rows differ, a line has every value."""
    found: dict[str, list[str]] = {}
    for name, field in _FIELDS:
        found[name] = list(dict.fromkeys(str(getattr(row, field)) for row in rows))
    for key in dict.fromkeys(key for row in rows for key in row.measurement):
        values = (row.measurement[key] for row in rows if key in row.measurement)
        found[key.replace("_", " ")] = list(dict.fromkeys(_shown(value) for value in values))
    found["split"] = list(dict.fromkeys(row.split for row in rows))
    found["versions"] = list(dict.fromkeys(_listed(row.versions) for row in rows))
    found["runs"] = list(dict.fromkeys(row.run for row in rows))
    found["schema version"] = list(dict.fromkeys(str(row.schema_version) for row in rows))
    found["values"] = [str(len(rows))]
    return [["setting", "value"], *([name, "; ".join(values)] for name, values in found.items())]


def vector_table(study: Study) -> list[list[str]]:
    """One line for each steered cell of a study, under a line of headings: what exactly was added."""
    lines = [["method", "layer", "×", "vector norm", "vector hash", "parameters"]]
    for configuration in steered(study.rows):
        row = configuration.row
        norm = wording.ABSENT if row.vector_norm is None else f"{row.vector_norm:.4g}"
        parameters = ", ".join(f"{key} {_shown(value)}" for key, value in row.parameters.items())
        shown = [row.method, str(row.layer), wording.multiplier(row), norm, row.vector_hash[:12], parameters]
        lines.append([cell or wording.ABSENT for cell in shown])
    return lines


def versions_table() -> list[list[str]]:
    """One line for each package that the report was computed with, under a line of headings."""
    lines = [[name, version(name)] for name in _PACKAGES]
    return [["package", "version"], ["Python", platform.python_version()], *lines]


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items()) or "not recorded"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
