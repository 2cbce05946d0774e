"""How alike a vector is to each feature of a sparse autoencoder: the paper's Fig. 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from steering.report.figures import style
from steering.report.figures.figure import Figure

if TYPE_CHECKING:  # it would load torch, which no figure needs
    from steering.sae.similarity import FeatureSimilarity

_NAMED = 12
_HIGH, _LOW = "#D55E00", "#0072B2"


def similarity_figure(found: FeatureSimilarity, descriptions: Mapping[int, str] = {}) -> Figure:
    """The distribution of the products W_dec @ v of the mean difference, and its extremes by name.

    Args:
        found: How alike the mean difference is to each feature.
        descriptions: Feature -> what it is about, of the features at the ends.
    """
    products, top, bottom = found.products, found.top, found.bottom
    title = f"Similarity of mean_difference with SAE features, layer {found.layer}"
    caption = (
        f"Unnormalised product of the vector with the decoder row of each of {len(products):,} features. Marked are "
        f"the {len(top)} features at either end (0.1 %), the outermost of them by name; the product says how much a "
        "feature points along the vector, not whether the model uses it."
    )
    tails = dict.fromkeys(bottom, "bottom") | dict.fromkeys(top, "top")
    data: list[list[Any]] = [
        ["rank", "feature", "product", "tail", "description"],
        *(
            [rank, feature, float(products[feature]), tails.get(feature, ""), descriptions.get(feature, "")]
            for rank, feature in enumerate(found.order, start=1)
        ),
    ]
    return Figure(
        f"similarity-mean_difference-layer{found.layer}",
        title,
        caption,
        data,
        partial(_draw, products, top, bottom, descriptions, title),
    )


def _draw(
    products: np.ndarray, top: Sequence[int], bottom: Sequence[int], descriptions: Mapping[int, str], title: str
) -> Canvas:
    named = [*top[:_NAMED], *(feature for feature in reversed(bottom[:_NAMED]) if feature not in top[:_NAMED])]
    figure = style.new_figure(title, 3.2 + 0.21 * len(named))
    overview, extremes = figure.subplots(2, height_ratios=(2.3, 0.21 * len(named) + 0.5))
    _draw_overview(overview, products, top, bottom)
    _draw_extremes(extremes, products, named, set(top), descriptions)
    farthest = 1.05 * float(np.abs(products).max()) or 1.0
    for axes in (overview, extremes):
        axes.set_xlim(-farthest, farthest)
    return figure


def _draw_overview(axes: Axes, products: np.ndarray, top: Sequence[int], bottom: Sequence[int]) -> None:
    edges = np.histogram_bin_edges(products, bins=min(100, max(10, len(products) // 5)))
    axes.hist(products, bins=edges.tolist(), color="0.75")
    ends = ((top, _HIGH, "^", "top"), (bottom, _LOW, "v", "bottom"))
    for features, colour, marker, end in ends:
        axes.plot(products[features], np.full(len(features), 0.7), marker, color=colour, label=f"{end} 0.1 %", zorder=3)
    style.log_axis(axes)
    axes.set_ylim(0.5, 2 * axes.dataLim.ymax)
    axes.set_ylabel("features in a bin")
    axes.set_xlabel("product of the vector with the feature's decoder row")
    style.legend_above(axes)


def _draw_extremes(
    axes: Axes, products: np.ndarray, named: Sequence[int], top: set[int], descriptions: Mapping[int, str]
) -> None:
    lines = range(len(named))
    for line, feature in zip(lines, named, strict=True):
        colour, marker = (_HIGH, "^") if feature in top else (_LOW, "v")
        axes.hlines(line, 0, products[feature], color=colour, linewidth=1)
        axes.plot([products[feature]], [line], marker, color=colour)
        # On the other side of 0 there is room: the axis is as long on both.
        side = -1 if products[feature] >= 0 else 1
        text = style.fitted(f"{feature}  {descriptions.get(feature, '')}".strip(), 0.46 * style.POINTS, 8)
        horizontal = "right" if side < 0 else "left"
        axes.annotate(
            text, (0, line), (5 * side, 0), textcoords="offset points", ha=horizontal, va="center", fontsize=8
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([])
    axes.set_ylim(len(named) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("product, beside the number and the description of the feature")
