"""P(success), changes of loss and norms by layer: the paper's Fig. 5 and 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from steering.grouping import grouped
from steering.report.figures import lines, style
from steering.report.figures.figure import Figure
from steering.report.figures.lines import Panel
from steering.report.figures.series import Series, SeriesGroup, over_layers
from steering.report.paper import PaperValues
from steering.results import NEGATIVE_CHANGE, NEUTRAL_CHANGE, POSITIVE_CHANGE, SUCCESS, Configuration, Row

#: Metric of each panel, and what it is called.
LOSSES = {
    NEGATIVE_CHANGE: "negative side\n(steered away from)",
    POSITIVE_CHANGE: "positive side\n(steered towards)",
    NEUTRAL_CHANGE: "neutral text",
}
LOSS_LABEL = "Loss(M + v) − Loss(M), nats per token"
_SUCCESS_DOSES, _LOSS_DOSES = 6, 24
_PAPER_LOOK: dict[str, Any] = {
    "color": "black",
    "marker": "D",
    "linestyle": ":",
    "markerfacecolor": "white",
    "markersize": 5,
    "linewidth": 0.8,
}


def success_by_layer(group: SeriesGroup, paper: PaperValues | None) -> list[Figure]:
    """P(success) by layer (Fig. 5): of all methods that have one given dose, and of each that has several."""
    series = over_layers(group.at(None), [SUCCESS])
    drawn = grouped(
        lines.panels_of(series, style.Look.of_methods(group.series), _SUCCESS_DOSES), lambda panel: panel.method
    )
    shown = {entry.method for entry in series}
    left_out = dict.fromkeys(
        entry.method for entry in group.at(None) if entry.layers([SUCCESS]) and entry.method not in shown
    )
    return [_success_figure(group, panels, paper, list(left_out)) for panels in drawn.values()]


def _success_figure(
    group: SeriesGroup, panels: Sequence[Panel], paper: PaperValues | None, left_out: Sequence[str]
) -> Figure:
    series = list(dict.fromkeys(entry for panel in panels for entry in panel.series))
    baseline, rows = group.without_vector(SUCCESS), [row for entry in series for row in entry.rows(SUCCESS)]
    data = [lines.HEADINGS, *([lines.data_line(baseline)] if baseline else [])]
    data += [lines.data_line(row, entry.dose) for entry in series for row in entry.rows(SUCCESS)]
    band = "; the band is the unsteered run's" if lines.unsteered_labels(baseline) else ""
    caption = (
        f"Share of sampled completions that hold a keyword, {lines.item_count(rows, 'completions')} a point, with 95 % "
        f"Wilson intervals{band}{lines.missing(rows)}. Intervals are not adjusted for the "
        "number of layers, and the best of many stands out by chance; lines between points only guide the eye."
    )
    if left_out:
        caption += (
            f" Left out, since measured at one layer only: {', '.join(style.inert(name, 40) for name in left_out)}."
        )
    beside = None if paper is None else _nearest(series, paper)
    if paper and beside:
        data += _paper_lines(paper)
        caption += " Open markers and dotted lines: the paper's values for GPT-2 small, read off its Fig. 5 (±0.02)."
    title = f"P(success) by layer{_of_method(panels[0])}: {group.heading}"
    drawing = partial(_draw_success, panels, baseline, title, paper, beside)
    return Figure(group.name("success_by_layer", panels[0].method), title, caption, data, drawing)


def _of_method(panel: Panel) -> str:
    return f", {style.inert(panel.method, 40)}" if panel.method else ""


def _nearest(series: Sequence[Series], paper: PaperValues) -> Series | None:
    """The series that the paper's values stand beside: of its method the nearest dose."""
    same = [entry for entry in series if entry.method == paper.method]
    return min(same, key=lambda entry: abs(entry.multiplier - paper.multiplier), default=None)


def _paper_lines(paper: PaperValues) -> list[list[Any]]:
    """The paper's values under the headings of the data."""
    method, dose, rest = f"paper: {paper.method}", f"×{paper.multiplier:g}", [None, None, paper.rollouts, "", ""]
    return [
        ["paper: unsteered", "", False, None, 0.0, None, "", SUCCESS, paper.unsteered, *rest],
        *(
            [method, dose, False, layer, paper.multiplier, paper.norms[layer], "", SUCCESS, value, *rest]
            for layer, value in paper.success.items()
        ),
    ]


def _draw_success(
    panels: Sequence[Panel], baseline: Row | None, title: str, paper: PaperValues | None, beside: Series | None
) -> Canvas:
    printed = [f"paper, {paper.method} ×{paper.multiplier:g}", "paper, unsteered"] if paper else []
    unsteered = lines.unsteered_labels(baseline)
    heights = []
    for panel in panels:
        labels = [*unsteered, *map(panel.label, panel.series), *(printed if beside in panel.series else [])]
        heights.append(3.0 + style.legend_height(labels))
    figure = style.new_figure(title, 0.5 + sum(heights))
    all_axes = figure.subplots(len(panels), squeeze=False, sharey=True, height_ratios=heights)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        lines.unsteered_band(axes, baseline)
        for entry, look, shift in zip(panel.series, panel.looks, lines.shifts(len(panel.series)), strict=True):
            lines.error_bars(axes, entry.rows(SUCCESS), look, panel.label(entry), shift)
        if paper and beside in panel.series:
            axes.plot(list(paper.success), list(paper.success.values()), label=printed[0], **_PAPER_LOOK)
            axes.axhline(paper.unsteered, color="black", linestyle=":", linewidth=0.8, label=printed[1])
        style.layer_axis(axes, lines.layers_of([entry for panel in panels for entry in panel.series]))
        axes.set_ylabel("P(success)")
        style.legend_above(axes)
    all_axes[0].set_ylim(bottom=0)  # after all is drawn: it ends the scaling of the axes, which are shared
    return figure


def loss_change_by_layer(group: SeriesGroup, paper: PaperValues | None) -> list[Figure]:
    """Changes of loss on the three kinds of text, by layer (Fig. 6), for methods together and for doses of each."""
    figures = []
    for budget in group.budgets:
        series = over_layers(group.at(budget), LOSSES)
        doses = "" if budget is None else f"budget_{budget:g}"
        figures += [
            _loss_figure(group, panel, doses, paper)
            for panel in lines.panels_of(series, style.Look.of_methods(group.series), _LOSS_DOSES)
            if len(lines.layers_of(panel.series)) > 1 or len(lines.layers_of(group.series)) == 1
        ]
    return figures


def _loss_figure(group: SeriesGroup, panel: Panel, doses: str, paper: PaperValues | None) -> Figure:
    rows = [(row, entry.dose) for entry in panel.series for metric in LOSSES for row in entry.rows(metric)]
    title = f"Change of loss by layer{_of_method(panel)}: {group.heading}"
    caption = (
        "Steered minus unsteered cross-entropy of the same texts, mean over texts with 95 % bootstrap intervals as "
        f"bands ({_counts(rows)}){lines.missing([row for row, _ in rows])}. Above 0 the steered model expects a text "
        f"less{style.WIDE if style.is_wide(_ends(panel)) else ''}."
    )
    if paper:
        caption += " The axis of the paper's Fig. 6 is labelled with this sign, but its curves have the opposite one."
    data = [lines.HEADINGS, *(lines.data_line(row, dose) for row, dose in rows)]
    name = group.name("loss_change_by_layer", panel.method, doses)
    return Figure(name, title, caption, data, partial(_draw_losses, panel, title))


def _counts(rows: Sequence[tuple[Row, str]]) -> str:
    """How many texts of each kind there are."""
    by_kind = {metric: [row for row, _ in rows if row.metric == metric] for metric in LOSSES}
    names = (metric.removeprefix("loss_change_") for metric in LOSSES)
    return "; ".join(
        lines.item_count(found, f"{name} texts") for name, found in zip(names, by_kind.values(), strict=True)
    )


def _ends(panel: Panel) -> list[float]:
    rows = [row for entry in panel.series for metric in LOSSES for row in entry.measured(metric)]
    return [end for row in rows for end in (row.value, row.low, row.high) if end is not None]


def _draw_losses(panel: Panel, title: str) -> Canvas:
    kinds = {metric: kind for metric, kind in LOSSES.items() if any(entry.measured(metric) for entry in panel.series)}
    height = 0.7 + 2.5 * len(kinds) + style.legend_height([*map(panel.label, panel.series)])
    figure = style.new_figure(title, height)
    all_axes = figure.subplots(len(kinds), squeeze=False, sharex=True, sharey=True)[:, 0]
    count = len(panel.series)
    shifts = lines.shifts(count) if len(lines.layers_of(panel.series)) == 1 else [0.0] * count
    for axes, (metric, kind) in zip(all_axes, kinds.items(), strict=True):
        axes.axhline(0, color="black", linewidth=0.8, zorder=1)
        for entry, look, shift in zip(panel.series, panel.looks, shifts, strict=True):
            lines.band(axes, entry.rows(metric), look, panel.label(entry), shift)
        axes.set_ylabel(kind)
        if style.is_wide(_ends(panel)):
            style.wide_axis(axes, "y")
        style.layer_axis(axes, lines.layers_of(panel.series), "")
    figure.supylabel(LOSS_LABEL, fontsize=9)
    all_axes[-1].set_xlabel(style.LAYER)
    style.legend_above(all_axes[0])
    return figure


def vector_norms(group: SeriesGroup, paper: PaperValues | None) -> list[Figure]:
    """Norms of the vectors before the multiplier, by layer, which say what a multiplier means."""
    found = _vectors(group)
    if not found:
        return []
    paper = paper if paper and paper.method in {entry.method for entry in found} else None
    title = f"Norm of the vectors by layer: {group.heading}"
    caption = (
        "Euclidean norm of each vector as constructed; what is added is this norm times the multiplier. It is computed "
        f"once from all pairs, and has no interval here.{_of_equal_norm(found)}"
    )
    data: list[list[Any]] = [
        ["method", "is_control", "layer", "vector_norm", "vector_hash"],
        *(
            [entry.method, row.is_control, row.layer, row.vector_norm, row.vector_hash]
            for entry in found
            for row in (cell.row for cell in entry.cells)
        ),
    ]
    if paper:
        data += [[f"paper: {paper.method}", False, layer, norm, ""] for layer, norm in paper.norms.items()]
        caption += " Open markers are the paper's values for GPT-2 small."
    name = group.name("vector_norm_by_layer")
    looks = style.Look.of_methods(found) | style.Look.of_methods(group.series)
    return [Figure(name, title, caption, data, partial(_draw_norms, found, looks, title, paper))]


def _of_equal_norm(series: Sequence[Series]) -> str:
    """What cannot be seen: markers that lie on one another."""
    norms = [cell.row.vector_norm for entry in series for cell in entry.cells]
    at_layer = [cell.row.layer for entry in series for cell in entry.cells]
    places = {(layer, f"{norm:.3g}") for layer, norm in zip(at_layer, norms, strict=True)}
    return " Vectors of equal norm lie on one another." if len(places) < len(norms) else ""


def _vectors(group: SeriesGroup) -> list[Series]:
    """One series of each method's vectors, whatever their doses; vectors made with other settings are another's."""
    found: dict[tuple[str, bool], dict[int, Configuration]] = {}
    for entry in group.series:
        for cell in entry.cells:
            row = cell.row
            if row.vector_norm is None or row.layer is None:
                continue
            known = found.get((entry.method, entry.is_control), {}).get(row.layer, cell)
            name = entry.method if known.row.vector_hash == row.vector_hash else entry.label
            found.setdefault((name, entry.is_control), {})[row.layer] = cell
    return [
        Series(name, "", None, is_control, tuple(cell for _, cell in sorted(cells.items(), key=itemgetter(0))))
        for (name, is_control), cells in found.items()
    ]


def _draw_norms(
    found: Sequence[Series], looks: Mapping[str, style.Look], title: str, paper: PaperValues | None
) -> Canvas:
    labels = [style.label(entry) for entry in found]
    printed = [f"paper, {paper.method}"] if paper else []
    figure = style.new_figure(title, 3.3 + style.legend_height([*labels, *printed]))
    axes: Axes = figure.subplots()
    for entry, label in zip(found, labels, strict=True):
        rows = [cell.row for cell in entry.cells]
        values = lines.numbers([row.vector_norm for row in rows])
        axes.plot(lines.numbers([row.layer for row in rows]), values, **looks[entry.method].line_style, label=label)
    if paper:
        axes.plot(list(paper.norms), list(paper.norms.values()), label=printed[0], **_PAPER_LOOK)
    if np.nanmin([cell.row.vector_norm for entry in found for cell in entry.cells]) > 0:
        style.log_axis(axes)
    style.layer_axis(axes, lines.layers_of(found))
    axes.set_ylabel("norm (units of the residual stream)")
    style.legend_above(axes)
    return figure
