"""What success costs: P(success) against damage to neutral text, and doses that do the same damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from steering.report.figures import lines, style
from steering.report.figures.figure import Figure
from steering.report.figures.lines import Panel
from steering.report.figures.series import Series, SeriesGroup
from steering.report.figures.style import Look
from steering.results import DEVELOPMENT_CHANGE, NEUTRAL_BUDGET, NEUTRAL_CHANGE, SUCCESS, Row

_LISTED = 18


@dataclass(frozen=True, eq=False)
class Point:
    """A cell by what it reaches and what it costs.

    Attributes:
        series: That it belongs to; None for the unsteered run.
        success: P(success).
        cost: Change of the neutral loss.
        best: Whether it is non-dominated: no other point, the unsteered run included, has as high a success at as low a
            cost, and one of the two better.
    """

    series: Series | None
    success: Row
    cost: Row
    best: bool = False

    @property
    def at(self) -> tuple[float, float]:
        """Cost and success."""
        return self.cost.value or 0.0, self.success.value or 0.0


def pareto(group: SeriesGroup) -> list[Figure]:
    """P(success) against the change of the neutral loss, of all methods, layers and doses."""
    points = _points(group)
    if not any(point.series for point in points):
        return []
    title = f"P(success) against damage to neutral text: {group.heading}"
    successes, costs = [point.success for point in points], [point.cost for point in points]
    caption = (
        "Each point is a method at a layer and a dose, with 95 % intervals "
        f"({lines.item_count(successes, 'completions')}; {lines.item_count(costs, 'neutral documents')}). Numbered "
        "points are non-dominated: no other, controls and the unsteered run included, does as well for as little; "
        f"intervals that overlap leave that open{style.WIDE if style.is_wide(_costs(points)) else ''}."
    )
    data: list[list[Any]] = [
        [
            *("method", "dose", "is_control", "layer", "multiplier", "success", "success_low", "success_high"),
            *("success_n", "neutral_change", "neutral_low", "neutral_high", "neutral_n", "non_dominated"),
        ],
        *(_line(point) for point in points),
    ]
    return [Figure(group.name("pareto"), title, caption, data, partial(_draw_pareto, group, points, title))]


def _costs(points: Sequence[Point]) -> list[float]:
    return [point.at[0] for point in points]


def _line(point: Point) -> list[Any]:
    row, cost = point.success, point.cost
    dose = point.series.dose if point.series else ""
    success = [row.value, row.low, row.high, row.n]
    return [
        *(row.method, dose, row.is_control, row.layer, row.multiplier, *success),
        *(cost.value, cost.low, cost.high, cost.n, point.best),
    ]


def _points(group: SeriesGroup) -> list[Point]:
    steered = [(series, cell) for series in group.series for cell in series.cells]
    unsteered = [] if group.unsteered is None else [(None, group.unsteered)]
    points = []
    for series, configuration in [*unsteered, *steered]:
        success, cost = configuration.measured(SUCCESS), configuration.measured(NEUTRAL_CHANGE)
        if success and cost:
            points.append(Point(series, success, cost))
    at = np.array([point.at for point in points]).reshape(-1, 2)
    return [Point(point.series, point.success, point.cost, best=not _dominated(point.at, at)) for point in points]


def _dominated(point: tuple[float, float], others: np.ndarray) -> bool:
    cost, success = point
    no_worse = (others[:, 0] <= cost) & (others[:, 1] >= success)
    better = (others[:, 0] < cost) | (others[:, 1] > success)
    return bool((no_worse & better).any())


def _draw_pareto(group: SeriesGroup, points: Sequence[Point], title: str) -> Canvas:
    methods = list(dict.fromkeys(point.success.method for point in points))
    controls = {entry.method for entry in group.series if entry.is_control}
    labels = [style.inert(method, 30) + (" (control)" if method in controls else "") for method in methods]
    above = style.legend_height(labels)
    figure = style.new_figure(title, 5.4 + above)
    grid = figure.add_gridspec(2, 2, width_ratios=(0.71, 0.29), height_ratios=(above, 5))
    legend, axes, listed = (figure.add_subplot(place) for place in (grid[0, :], grid[1, 0], grid[1, 1]))
    looks = Look.of_methods(group.series)
    for method, label in zip(methods, labels, strict=True):
        members = [point for point in points if point.success.method == method]
        look = looks.get(method, Look("black", "*", ""))
        _scatter(axes, members, look, label)
    best = sorted((point for point in points if point.best), key=lambda point: point.at)
    axes.plot(*np.array([point.at for point in best]).T, color="black", linewidth=0.8, drawstyle="steps-post", zorder=1)
    axes.set_xlabel("neutral text: Loss(M + v) − Loss(M), nats per token")
    axes.set_ylabel("P(success)")
    if style.is_wide(_costs(points)):
        style.wide_axis(axes, "x")
    legend.set_axis_off()
    legend.legend(
        *axes.get_legend_handles_labels(), loc="upper left", ncols=style.columns(labels), borderaxespad=0
    ).set_in_layout(False)
    _list(listed, best)
    figure.draw_without_rendering()  # settles where the points are
    _number(axes, best)
    return figure


def _number(axes: Axes, best: Sequence[Point]) -> None:
    """Put numbers above and to the left of the points, where no cell can be; one above another where it is tight."""
    to_points = 72 / mpl.rcParams["figure.dpi"]
    taken: list[tuple[float, float]] = []
    for number, point in enumerate(best[:_LISTED], start=1):
        x, bottom = axes.transData.transform(point.at) * to_points + (-7, 6)
        y = bottom
        while any(abs(x - other) < 13 and abs(y - height) < 10 for other, height in taken):
            y += 10
        taken.append((x, y))
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": style.GREY, "shrinkA": 0, "shrinkB": 5}
        axes.annotate(
            str(number),
            point.at,
            (-7, 6 + y - bottom),
            textcoords="offset points",
            arrowprops=line,
            ha="right",
            va="bottom",
            fontsize=8.5,
            weight="bold",
        )


def _scatter(axes: Axes, points: Sequence[Point], look: Look, label: str) -> None:
    x, y = np.array([point.at for point in points]).T
    ends = [[(row.low, row.high) for row in (point.cost, point.success)] for point in points]
    low, high = np.array(ends, dtype=float).transpose(2, 1, 0)
    style_ = {key: value for key, value in look.line_style.items() if key in ("color", "zorder")}
    axes.errorbar(
        x,
        y,
        xerr=np.array([x - low[0], high[0] - x]).clip(min=0),
        yerr=np.array([y - low[1], high[1] - y]).clip(min=0),
        fmt="none",
        elinewidth=0.6,
        alpha=0.4,
        **style_,
    )
    axes.plot(x, y, look.marker, label=label, markersize=5, **style_)
    chosen = [point.at for point in points if point.best]
    if chosen:
        axes.plot(*np.array(chosen).T, "o", markersize=10, markerfacecolor="none", markeredgecolor="black")


def _list(axes: Axes, best: Sequence[Point]) -> None:
    """What the numbers of the points stand for."""
    axes.set_axis_off()
    entries = [f"{number}  {_legend_entry(point)}" for number, point in enumerate(best[:_LISTED], start=1)]
    entries += [f"and {len(best) - _LISTED} more, in the data"] if len(best) > _LISTED else []
    axes.text(
        0, 1, "\n".join(["Non-dominated:", *entries]), va="top", fontsize=8, linespacing=1.5, transform=axes.transAxes
    )


def _legend_entry(point: Point) -> str:
    cost, success = point.at
    if point.series is None:
        return f"unsteered: {success:.3f}"
    where = f"{style.fitted(point.series.label, 110, 8)}, layer {point.success.layer}"
    at = f"{round(cost, 3) + 0.0:+.3f}".replace("-", "−")
    return f"{where}:\n    {success:.3f} at {at}"


def equal_damage(group: SeriesGroup) -> list[Figure]:
    """Methods at the doses that a budget of neutral loss allows: what they reach, what they cost, how much is added."""
    figures = []
    for budget in group.budgets:
        series = group.at(budget)
        if budget is not None and any(entry.measured(SUCCESS) for entry in series):
            panels = lines.panels_of(series, Look.of_methods(group.series), len(series))
            figures += [_damage_figure(group, panel, budget, number) for number, panel in enumerate(panels, 1)]
    return figures


def _damage_figure(group: SeriesGroup, panel: Panel, budget: float, number: int) -> Figure:
    rows = [row for entry in panel.series for metric in (SUCCESS, NEUTRAL_CHANGE) for row in entry.rows(metric)]
    further = "" if number == 1 else f", {number}"
    title = f"Doses at equal damage, budget {budget:g} nats per token{further}: {group.heading}"
    band = ", with the unsteered run's as a band," if lines.unsteered_labels(group.without_vector(SUCCESS)) else ""
    caption = (
        "Each cell has the largest multiplier whose neutral loss change on development documents keeps the budget "
        f"(open markers); P(success){band} and the change on test documents have "
        f"95 % intervals ({lines.item_count([row for row in rows if row.metric == SUCCESS], 'completions')}, "
        f"{lines.item_count([row for row in rows if row.metric == NEUTRAL_CHANGE], 'documents')}). The grid of "
        f"multipliers is coarse, so the budget is rarely used up{lines.missing(rows)}."
    )
    data = [
        [*lines.HEADINGS, NEUTRAL_BUDGET, DEVELOPMENT_CHANGE],
        *(
            [*lines.data_line(row, entry.dose), budget, row.parameters.get(DEVELOPMENT_CHANGE)]
            for entry in panel.series
            for metric in (SUCCESS, NEUTRAL_CHANGE)
            for row in entry.rows(metric)
        ),
    ]
    name = group.name("equal_damage", f"{budget:g}", further.removeprefix(", "))
    return Figure(name, title, caption, data, partial(_draw_damage, group, panel, budget, title))


def _draw_damage(group: SeriesGroup, panel: Panel, budget: float, title: str) -> Canvas:
    unsteered = group.without_vector(SUCCESS)
    labels = [*lines.unsteered_labels(unsteered), *map(panel.label, panel.series)]
    figure = style.new_figure(title, 8.2 + style.legend_height(labels))
    above, middle, below = figure.subplots(3, sharex=True, height_ratios=(1.2, 1, 1))
    lines.unsteered_band(above, unsteered)
    middle.axhline(budget, color="black", linestyle="--", linewidth=1, label=f"budget {budget:g}")
    for entry, look, shift in zip(panel.series, panel.looks, lines.shifts(len(panel.series)), strict=True):
        lines.error_bars(above, entry.rows(SUCCESS), look, panel.label(entry), shift)
        _damage(middle, entry.rows(NEUTRAL_CHANGE), look, shift)
        _added(below, entry, look, shift)
    open_marker = {"marker": "o", "linestyle": "", "color": style.GREY, "markerfacecolor": "white"}
    middle.plot([], [], label="on the development documents, by which doses were chosen", **open_marker)
    above.set_ylabel("P(success)")
    above.set_ylim(bottom=0)
    middle.set_ylabel("neutral text:\nLoss(M + v) − Loss(M),\nnats per token")
    if any((line.get_ydata() > 0).any() for line in below.lines):  # otherwise there is nothing to take a logarithm of
        style.log_axis(below)
    below.set_ylabel("norm of what is added\n(multiplier × vector)")
    for axes in (above, middle, below):
        style.layer_axis(axes, lines.layers_of(panel.series), style.LAYER if axes is below else "")
    style.legend_above(above)
    style.legend_above(middle)
    return figure


def _damage(axes: Axes, rows: Sequence[Row], look: Look, shift: float) -> None:
    """The change of the neutral loss on test documents, and what it was on development documents."""
    lines.error_bars(axes, rows, look, "", shift)
    chosen = lines.numbers([row.parameters.get(DEVELOPMENT_CHANGE) for row in rows])
    layers = lines.numbers([row.layer for row in rows]) + shift
    axes.plot(layers, chosen, look.marker, color=look.colour, markerfacecolor="white", markersize=6, zorder=1.4)


def _added(axes: Axes, series: Series, look: Look, shift: float) -> None:
    """The norm of what is added, of every cell whose vector is known, whatever was measured of it."""
    rows = [cell.row for cell in series.cells if cell.row.added_norm is not None]
    layers, added = lines.numbers([row.layer for row in rows]), lines.numbers([row.added_norm for row in rows])
    axes.plot(layers + shift, added, **look.line_style)
