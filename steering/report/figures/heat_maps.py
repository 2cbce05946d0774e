"""P(success) by layer and multiplier: the paper's Fig. 8 and 9, with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from steering.grouping import grouped
from steering.report.figures import lines, style
from steering.report.figures.figure import Figure
from steering.report.figures.series import Series, SeriesGroup, over_layers
from steering.report.paper import PaperValues
from steering.results import SUCCESS, Row
from steering.tables import wording
from steering.tables.adjustment import adjusted_p_values, p_values

_COLUMNS = 12
#: Inches that the scale and what is written beside it need.
_LOWEST = 2.6


@dataclass(frozen=True)
class _PValues:
    """Of cells by the keys of their rows: each cell's own, and adjusted over all."""

    own: Mapping[tuple[Any, ...], float]
    adjusted: Mapping[tuple[Any, ...], float]


def success_by_dose(group: SeriesGroup, paper: PaperValues | None, level: float) -> list[Figure]:
    """A map for each method of which several doses were given; a frame marks p values below a level, adjusted."""
    by_method = grouped(group.at(None), lambda entry: entry.method)
    mapped = {method: over_layers(series, [SUCCESS]) for method, series in by_method.items()}
    several = {method: series for method, series in mapped.items() if len(series) > 1}
    cells = [row for entry in group.series for row in entry.rows(SUCCESS)] if several else []
    unsteered = group.without_vector(SUCCESS)
    compared = [*([unsteered] if unsteered else []), *cells]
    tested = _PValues(p_values(compared, "p_value"), adjusted_p_values(compared, "p_value"))
    return [
        _map(group, series, tested, level, paper if paper and method in paper.best else None)
        for method, series in several.items()
    ]


def _map(
    group: SeriesGroup,
    series: Sequence[Series],
    tested: _PValues,
    level: float,
    paper: PaperValues | None,
) -> Figure:
    method, rows = series[0].method, [row for entry in series for row in entry.rows(SUCCESS)]
    baseline = group.without_vector(SUCCESS)
    title = f"P(success) by layer and dose, {style.inert(method, 40)}: {group.heading}"
    caption = (
        f"Share of sampled completions that hold a keyword, {lines.item_count(rows, 'completions')} a cell, with its "
        f"95 % Wilson interval; unsteered {wording.proportion(baseline)}. The best of many noisy cells stands out by "
        f"chance: a frame marks those above the unsteered run with p < {level:g} (paired, adjusted by Holm over the "
        f"{len(tested.adjusted)} cells of all methods){lines.missing(rows)}."
    )
    if paper:
        caption += (
            f" The diamond is the best of the paper's {paper.best_of} cells (unsteered {paper.best_unsteered:.2f}), "
            "which has no interval."
        )
    data = [[*lines.HEADINGS, "p_value", "p_holm"], *([[*lines.data_line(baseline), None, None]] if baseline else [])]
    data += [
        [*lines.data_line(row, entry.dose), tested.own.get(row.key), tested.adjusted.get(row.key)]
        for entry in series
        for row in entry.rows(SUCCESS)
    ]
    if paper:
        best = [f"paper: best {method}", "", False, None, None, None, "", SUCCESS, paper.best[method]]
        data.append([*best, None, None, paper.rollouts, "", "", None, None])
    framed = {key for key, p_value in tested.adjusted.items() if p_value < level}
    drawing = partial(_draw, series, baseline, framed, title, paper)
    return Figure(group.name("success_by_dose", method), title, caption, data, drawing)


def _draw(
    series: Sequence[Series],
    baseline: Row | None,
    framed: Collection[tuple[Any, ...]],
    title: str,
    paper: PaperValues | None,
) -> Canvas:
    layers = lines.layers_of(series)
    blocks = lines.chunks(series, _COLUMNS)
    figure = style.new_figure(title, max(_LOWEST, 0.9 + len(blocks) * (0.5 + 0.36 * len(layers))))
    all_axes = figure.subplots(len(blocks), squeeze=False)[:, 0]
    values = [row.value or 0.0 for entry in series for row in entry.measured(SUCCESS)]
    marked = [row.value or 0.0 for row in [baseline] if row] + ([paper.best[series[0].method]] if paper else [])
    colours = ScalarMappable(Normalize(0, max(*values, *marked, 0.05)), mpl.colormaps["cividis"])
    for axes, block in zip(all_axes, blocks, strict=True):
        _draw_block(axes, block, layers, colours, framed)
        axes.set_xlim(-0.5, max(map(len, blocks)) - 0.5)
    bar = figure.colorbar(colours, ax=list(all_axes), fraction=0.04, pad=0.02, aspect=12 * len(blocks) + 8)
    bar.set_label("P(success)")
    if baseline is not None and baseline.value is not None:
        bar.ax.axhline(baseline.value, color="white", linewidth=3)
        bar.ax.axhline(baseline.value, color="black", linewidth=1.2)
        bar.ax.text(
            -0.3,
            baseline.value,
            "unsteered",
            ha="right",
            va="center",
            fontsize=8,
            transform=bar.ax.get_yaxis_transform(),
        )
    if paper:
        bar.ax.set_xlabel("◇ paper's\nbest", fontsize=8)
        bar.ax.plot([0.5], [paper.best[series[0].method]], "D", color="black", markerfacecolor="white", clip_on=False)
    return figure


def _draw_block(
    axes: Axes,
    series: Sequence[Series],
    layers: Sequence[int],
    colours: ScalarMappable,
    framed: Collection[tuple[Any, ...]],
) -> None:
    for column, entry in enumerate(series):
        for row in entry.rows(SUCCESS):
            if row.layer is not None:
                place = (column, layers.index(row.layer))
                _draw_cell(axes, place, row, colours, framed=row.key in framed)
    axes.set_xticks(range(len(series)), [style.inert(entry.dose, 12) for entry in series])
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("layer")
    axes.set_xlabel("dose (multiplier of the vector)")


def _draw_cell(axes: Axes, place: tuple[int, int], row: Row, colours: ScalarMappable, *, framed: bool) -> None:
    column, line = place
    if row.value is None:
        axes.text(column, line, row.status, ha="center", va="center", fontsize=8, color=style.GREY)
        return
    colour = colours.to_rgba(np.array([row.value]))[0]
    axes.add_patch(Rectangle((column - 0.48, line - 0.48), 0.96, 0.96, facecolor=colour, linewidth=0))
    if framed:
        corner, size = (column - 0.48, line - 0.48), (0.96, 0.96)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=3.5))
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=1.5))
    interval = "" if row.low is None or row.high is None else f"\n{_short(row.low)}–{_short(row.high)}"
    text = f"{row.value:.2f}{interval}"
    axes.text(*place, text, ha="center", va="center", fontsize=8, linespacing=1.15, color=_ink(colour[:3]))


def _ink(colour: np.ndarray) -> str:
    """Black or white, whichever has the higher contrast on a colour, by the relative luminance of WCAG 2.2."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _short(share: float) -> str:
    """A share without its 0, for narrow cells."""
    return f"{share:.2f}".removeprefix("0")
