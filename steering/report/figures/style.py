"""How all figures look: readable in greyscale, by the colour-blind, and at 900 pixels of width."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from steering.report.figures.series import Series
from steering.tables.wording import visible

#: Of every figure, inches: 900 CSS pixels.
WIDTH = 9.375
GREY = "0.45"
LAYER = "layer (block whose output is steered)"
WIDE = "; the axis of loss changes is linear up to ±0.1 and logarithmic beyond"
POINTS = WIDTH * 72
_LONGEST_LABEL = 44
_TITLE_SIZE, _LEGEND_SIZE = 11, 8.5
# Of a legend: line and spaces beside a label, points.
_HANDLE = 44
# Beside axes before the layout, points: it narrows those above which a wider legend stands.
_BESIDE = 155

# Okabe and Ito (2008, https://jfly.uni-koeln.de/color/), without the yellow that white swallows.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": _LEGEND_SIZE,
    "legend.frameon": False,
    "figure.titlesize": _TITLE_SIZE,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # names and completions are anybody's text
    "svg.fonttype": "none",  # text that can be searched, copied and read aloud
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Matplotlib's defaults with these settings, whatever a user's matplotlibrc says.

    Completions may hold any script; what the font lacks is drawn as a box, without a warning.
    """
    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def inert(text: str, longest: int = 200) -> str:
    """Text on one line that shows what it holds and does nothing else, shortened to some characters."""
    shown = visible(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


@dataclass(frozen=True)
class Look:
    """How a series is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]
    is_hollow: bool = False

    @property
    def line_style(self) -> dict[str, Any]:
        """For Matplotlib. Controls stay behind what they are there for."""
        faint = {"linewidth": 0.8, "markersize": 3.5, "zorder": 1.5} if self.colour == GREY else {"zorder": 2.5}
        inside = {"markerfacecolor": "white"} if self.is_hollow else {}
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line, **faint, **inside}

    @property
    def opacity(self) -> float:
        """Of a band."""
        return 0.09 if self.colour == GREY else 0.15

    @classmethod
    def of_methods(cls, series: Sequence[Series]) -> dict[str, Look]:
        """Method -> its look; controls are grey, and differ in their markers."""
        methods = list(dict.fromkeys(entry.method for entry in series if not entry.is_control))
        controls = list(dict.fromkeys(entry.method for entry in series if entry.is_control))
        looks = {name: _cycled(number) for number, name in enumerate(methods)}
        return {name: cls(GREY, _MARKERS[-1 - n % len(_MARKERS)], ":") for n, name in enumerate(controls)} | looks

    @classmethod
    def of_doses(cls, series: Sequence[Series]) -> list[Look]:
        """One look for each dose of one method: from dark to light with the multiplier.

        Negative ones are dashed and hollow: where there is one layer, no line is seen.
        """
        sizes = sorted({_size(entry) for entry in series})
        colours = mpl.colormaps["viridis"]
        looks = []
        for entry in series:
            rank = sizes.index(_size(entry))
            colour = mpl.colors.to_hex(colours(0.85 * rank / max(1, len(sizes) - 1)))
            is_negative = entry.multiplier < 0
            looks.append(cls(colour, _MARKERS[rank % len(_MARKERS)], "--" if is_negative else "-", is_negative))
        return looks


def _size(series: Series) -> tuple[float, str]:
    """A dose without its sign; what else tells equal multipliers apart is part of it."""
    return abs(series.multiplier), series.dose.replace("−", "")


def _cycled(number: int) -> Look:
    return Look(*(options[number % len(options)] for options in (_COLOURS, _MARKERS, _LINES)))  # type: ignore[arg-type]


def new_figure(title: str, height: float) -> Figure:
    """An empty figure of the common width, some inches high, under its title."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(_wrapped(inert(title)), x=0.01, ha="left")
    return figure


def _wrapped(title: str) -> str:
    """A title on two lines at most."""
    width, words, first = 0.97 * POINTS, title.split(), ""
    while words and text_width(f"{first} {words[0]}", _TITLE_SIZE, "bold") <= width:
        first = f"{first} {words.pop(0)}".strip()
    rest = fitted(" ".join(words), width, _TITLE_SIZE, "bold")
    return "\n".join(filter(None, (first, rest)))


def label(series: Series) -> str:
    """Of a series, for legends."""
    return inert(series.label, _LONGEST_LABEL) + (" (control)" if series.is_control else "")


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text, points."""
    font = FontProperties(size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def fitted(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Text on one line, shortened until it is no wider than some points."""
    shown = inert(text)
    while text_width(shown, size, weight) > width and len(shown) > 2:
        shown = shown[:-2] + "…"
    return shown


def legend_above(axes: Axes) -> None:
    """Put the legend right above the axes, where it covers nothing."""
    if labels := axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns(labels), borderaxespad=0.2)


def columns(labels: Sequence[str]) -> int:
    """How many columns of a legend fit beside each other; each is as wide as the longest of its labels."""
    widths = [text_width(text, _LEGEND_SIZE) + _HANDLE for text in labels]
    for count in range(len(labels), 1, -1):
        if sum(column.max() for column in np.array_split(widths, count)) <= POINTS - _BESIDE:
            return count
    return 1


def legend_height(labels: Sequence[str]) -> float:
    """Of a legend with these labels, inches."""
    return 0.19 * math.ceil(len(labels) / columns(labels)) if labels else 0.0


def layer_axis(axes: Axes, layers: Sequence[int], name: str = LAYER) -> None:
    """Ticks at whole layers: at those that were measured, as far as they fit."""
    axes.set_xlim(min(layers) - 0.6, max(layers) + 0.6)
    few = len(layers) <= 36 and max(layers) - min(layers) < 60
    axes.xaxis.set_major_locator(FixedLocator(sorted(layers)) if few else MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=False, axis="x")
    if name:
        axes.set_xlabel(name)


def plain_numbers(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Write the ticks of a logarithmic axis as numbers; powers would be TeX."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    chosen.set_minor_formatter(NullFormatter())


def log_axis(axes: Axes) -> None:
    """Scale the vertical axis, along which positive values are drawn already, logarithmically."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high > 10 * low else range(1, 10)))
    axes.yaxis.set_minor_locator(NullLocator())
    plain_numbers(axes, "y")


def is_wide(changes: Sequence[float]) -> bool:
    """Whether changes of loss go so far that a linear axis would hide the small ones."""
    return max(map(abs, changes), default=0.0) > 1


def wide_axis(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Scale an axis of loss changes: linear up to ±0.1, logarithmic beyond it."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    (axes.set_xscale if axis == "x" else axes.set_yscale)("symlog", linthresh=0.1, linscale=1.0)
    inside = [sign * size for sign in (-1, 1) for size in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)]
    chosen.set_major_locator(FixedLocator([-0.05, 0.0, 0.05, *inside]))
    chosen.set_minor_locator(NullLocator())
    plain_numbers(axes, axis)
