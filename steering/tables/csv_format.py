"""Comma-separated values that a spreadsheet can open without harm."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

# A spreadsheet takes text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def spreadsheet_cell(value: Any) -> Any:
    """A value, with an apostrophe before a text that a spreadsheet would take for a formula.

    Spreadsheets write it so themselves. Names in results are whatever somebody called them.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def table_to_csv(table: Sequence[Sequence[Any]]) -> str:
    """A table whose first line holds the headings, at full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([[spreadsheet_cell(value) for value in line] for line in table])
    return buffer.getvalue()
