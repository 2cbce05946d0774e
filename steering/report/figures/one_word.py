"""One-word completions as a matrix of layers by prompts: the paper's Fig. 11 and 12, with the unsteered row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from steering.report.figures import style
from steering.report.figures.figure import Figure
from steering.report.figures.series import Series, SeriesGroup
from steering.results import Row
from steering.tables import wording

_CHANGED = "one_word_changed"
_LONGEST_WORD = 12
_TINT = "#F4C57A"
_LINE_HEIGHT = 0.195
_SIZE = 8
# Widths in points: of all columns of words together, and of the column of counts.
_SPACE, _COUNT = 560, 48


def one_word_matrices(group: SeriesGroup) -> list[Figure]:
    """A matrix for each method and dose."""
    unsteered = group.without_vector(_CHANGED)
    return [
        _matrix(group, entry, rows, unsteered if unsteered and unsteered.texts else None)
        for entry in group.series
        if (rows := [row for row in entry.measured(_CHANGED) if row.texts and len(row.texts) == len(row.items)])
    ]


def _matrix(group: SeriesGroup, series: Series, rows: Sequence[Row], unsteered: Row | None) -> Figure:
    prompts = max(len(row.texts) for row in rows)
    title = f"One-word completions, {style.label(series)}: {group.heading}"
    changed = [wording.count(row) for row in rows]
    span = changed[0] if len(changed) == 1 else f"{_fewest(rows)} to {_most(rows)} of {prompts}"
    caption = (
        f"First word of the greedy completion of each of {prompts} prompts (columns, in the concept's order), "
        f"unsteered and steered at each layer; tinted and bold: another word than unsteered ({span} changed). A "
        "changed word need not be one that was steered towards, and no change says that steering did nothing for "
        "these prompts."
    )
    headings = ["method", "dose", "layer", "multiplier", "changed", "interval_low", "interval_high"]
    numbered = [f"{what} {number}" for number in range(1, prompts + 1) for what in ("prompt", "changed")]
    data = [[*headings, *numbered], *([_line(unsteered, "")] if unsteered else [])]
    data += [_line(row, series.dose) for row in rows]
    name = group.name("one_word", series.method, series.dose)
    return Figure(name, title, caption, data, partial(_draw, rows, unsteered, title))


def _fewest(rows: Sequence[Row]) -> int:
    return int(min(sum(row.items) for row in rows))


def _most(rows: Sequence[Row]) -> int:
    return int(max(sum(row.items) for row in rows))


def _line(row: Row, dose: str) -> list[Any]:
    pairs = [part for word, item in zip(row.texts, row.items, strict=False) for part in (word, bool(item))]
    return [row.method, dose, row.layer, row.multiplier, int(sum(row.items)), row.low, row.high, *pairs]


def _draw(rows: Sequence[Row], unsteered: Row | None, title: str) -> Canvas:
    shown = [*([unsteered] if unsteered else []), *rows]
    blocks = _blocks(shown)
    figure = style.new_figure(title, 0.5 + len(blocks) * (0.55 + _LINE_HEIGHT * len(shown)))
    all_axes = figure.subplots(len(blocks), squeeze=False)[:, 0]
    for axes, block in zip(all_axes, blocks, strict=True):
        _draw_block(axes, shown, block)
    return figure


def _blocks(rows: Sequence[Row]) -> list[dict[int, float]]:
    """Prompts that stand beside each other, with the widths of their columns in points."""
    widths = {
        prompt: max(_width(row.texts[prompt]) for row in rows if prompt < len(row.texts))
        for prompt in range(max(len(row.texts) for row in rows))
    }
    count = math.ceil(sum(widths.values()) / _SPACE)
    blocks: list[dict[int, float]] = [{}]
    for prompt, width in widths.items():
        used = sum(blocks[-1].values())
        if used and (used + width > _SPACE or used + width / 2 > sum(widths.values()) / count):
            blocks.append({})
        blocks[-1][prompt] = width
    return blocks


def _width(text: str) -> float:
    return max(24.0, style.text_width(_word(text), _SIZE, "bold") + 8)


def _draw_block(axes: Axes, rows: Sequence[Row], widths: Mapping[int, float]) -> None:
    """One block; the horizontal axis is in points."""
    right, ticks = 0.0, []
    for prompt, width in widths.items():
        ticks.append(right + width / 2)
        for line, row in enumerate(rows):
            if prompt < len(row.texts):
                changed = row.layer is not None and bool(row.items[prompt])
                _draw_word(axes, (right, line), width, row.texts[prompt], changed=changed)
        right += width
    for line, row in enumerate(rows):
        if row.layer is not None:
            axes.text(right + _COUNT / 2, line, wording.count(row), ha="center", va="center_baseline", fontsize=_SIZE)
        else:
            axes.plot((0, right + _COUNT), (line + 0.5, line + 0.5), color="black", linewidth=0.8)
    axes.set_xticks([*ticks, right + _COUNT / 2], [*(str(prompt + 1) for prompt in widths), "changed"])
    axes.set_yticks(range(len(rows)), ["unsteered" if row.layer is None else f"layer {row.layer}" for row in rows])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("prompt", loc="left", fontsize=_SIZE)
    axes.set_xlim(0, _SPACE + _COUNT)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0, labelsize=_SIZE)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _draw_word(axes: Axes, corner: tuple[float, int], width: float, text: str, *, changed: bool) -> None:
    left, line = corner
    if changed:
        axes.add_patch(Rectangle((left + 1, line - 0.45), width - 2, 0.9, facecolor=_TINT, linewidth=0))
    weight = "bold" if changed else "normal"
    axes.text(left + width / 2, line, _word(text), ha="center", va="center_baseline", fontsize=_SIZE, weight=weight)


def _word(text: str) -> str:
    """A completion as it is shown: shortened, an empty one and spaces visible."""
    return style.inert(text, _LONGEST_WORD).replace(" ", "␣") or "∅"
