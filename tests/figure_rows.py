"""Rows with items and intervals, as figures draw them; and what a drawn figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from steering.report.figures import Figure
from steering.results import Row
from tests.small_rows import small_row, unsteered_row

LOSSES = ("loss_change_negative", "loss_change_positive", "loss_change_neutral")
WORDS = ("girl", "sister", "king")


def cell(
    method: str = "mean_difference",
    layer: int | None = 1,
    multiplier: float = 1.0,
    *,
    success: float = 0.5,
    losses: Sequence[float] = (0.3, -0.1, 0.05),
    words: Sequence[str] = WORDS,
    **changes: Any,
) -> list[Row]:
    """All rows of one cell; intervals are 0.02 on the one side and 0.03 on the other."""
    common = {"method": method, "layer": layer, "multiplier": multiplier, "vector_hash": f"{method}{layer}", **changes}
    if layer is None:
        common |= {"method": "unsteered", "multiplier": 0.0, "vector_hash": "", "vector_norm": None, "p_value": None}
    values = {"rollout_probability": success, **dict(zip(LOSSES, losses, strict=True))}
    rows = [
        small_row(**{"metric": name, "value": value, "low": value - 0.02, "high": value + 0.03, "n": 8} | common)
        for name, value in values.items()
    ]
    changed = tuple(float(word != before) for word, before in zip(words, WORDS, strict=True))
    share = float(np.mean(changed))
    words_row = {"metric": "one_word_changed", "value": share, "low": share, "high": share, "n": len(changed)}
    return [*rows, small_row(**words_row | {"items": changed, "texts": tuple(words)} | common)]


def unsteered(**changes: Any) -> list[Row]:
    return cell(layer=None, success=0.25, losses=(0.0, 0.0, 0.0), **changes)


def plain_rows() -> list[Row]:
    """A run of three methods, one of them a control, at a few layers."""
    rows = unsteered()
    for layer in (1, 2, 4):
        rows += cell(layer=layer, success=0.3 + 0.1 * layer, losses=(0.1 * layer, -0.02 * layer, 0.01 * layer))
        rows += cell("random_direction", layer, success=0.25 + 0.01 * layer, losses=(0.0, 0.01, 0.02), is_control=True)
    return rows + cell("feature_delta", 2, 7.5, success=0.625, words=("boy", "sister", "prince"))


def dosed_rows(method: str = "feature_delta", doses: Sequence[float] = (-1.0, 0.5, 2.0)) -> list[Row]:
    """One method at several doses and two layers."""
    cells = [
        cell(
            method,
            layer,
            dose,
            success=min(0.95, 0.4 + 0.002 * dose + 0.01 * layer),
            losses=(dose * 0.1, -dose * 0.01, abs(dose)),
        )
        for layer in (3, 5)
        for dose in doses
    ]
    return [*unsteered(), *(row for rows in cells for row in rows)]


def budget_rows() -> list[Row]:
    """Two methods whose doses were found by a budget."""
    rows = unsteered()
    for number, method in enumerate(("mean_difference", "feature_delta")):
        for layer in (1, 3):
            dose = {"neutral_budget": 0.05, "development_loss_change": {1: 0.041, 3: 0.043}[layer]}
            multiplier = 2.0**layer + number
            rows += cell(method, layer, multiplier, losses=(0.2, 0.0, 0.045 + 0.001 * number), parameters=dose)
    return rows


def unsteered_only() -> list[Row]:
    return [unsteered_row()]


def named(figures: Sequence[Figure], name: str) -> Figure:
    """The one figure of a name."""
    [found] = [figure for figure in figures if figure.name == name]
    return found


def records(figure: Figure) -> list[dict[str, Any]]:
    """The data of a figure, by its headings."""
    headings, *lines = figure.data
    return [dict(zip(headings, line, strict=True)) for line in lines]


def texts_of(drawn: Canvas) -> list[Text]:
    """All text of a figure that is drawn: ticks beyond the ends of an axis are not."""
    hidden: set[Text] = set()
    for axes in drawn.axes:
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            shown = axis._update_ticks() if axes.axison else []
            hidden |= {label for tick in ticks if tick not in shown for label in (tick.label1, tick.label2)}
            if not axes.axison:
                hidden |= {axis.label, axis.offsetText}
    found = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in dict.fromkeys(found) if text not in hidden]


def line_named(axes: Axes, label: str) -> Any:
    """The one line of a label."""
    [line] = [line for line in axes.lines if line.get_label() == label]
    return line
