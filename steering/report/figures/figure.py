"""A figure with its data, and the files that it is written to."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import figure as canvas

from steering.files import make_directory, write_file
from steering.report.figures import style
from steering.tables.csv_format import table_to_csv

_DOTS_PER_INCH = 200


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn.

    Attributes:
        name: Stem of its files.
        title: One line.
        caption: One to three sentences: what is shown, of how many items, with which intervals, and what it does not
            show.
        data: What is drawn, at full precision, the headings first.
        drawing: Draws it.
    """

    name: str
    title: str
    caption: str
    data: list[list[Any]]
    drawing: Callable[[], canvas.Figure]

    def draw(self) -> canvas.Figure:
        """Draw it, laid out; whatever the user's matplotlibrc says, it comes out the same."""
        with style.applied():
            drawn = self.drawing()
            drawn.draw_without_rendering()  # makes the tick labels while the style holds: no name is read as TeX
            drawn.set_layout_engine("none")  # the layout stays as it is, whatever it is saved as
            return drawn


def write(figure: Figure, directory: Path | str) -> list[Path]:
    """Write a figure as PNG (200 dpi), SVG and CSV; each file whole or not at all, and from the same data the same.

    Args:
        figure: The figure.
        directory: Created where it does not exist.

    Returns:
        The files: PNG, SVG, CSV.

    Raises:
        ResultsError: The directory cannot be created, or a file cannot be written.
    """
    directory = Path(directory)
    make_directory(directory)
    contents = {**_images(figure), "csv": table_to_csv(figure.data).encode()}
    paths = []
    for ending, content in contents.items():
        path = directory / f"{figure.name}.{ending}"
        write_file(path, content)
        paths.append(path)
    return paths


def _images(figure: Figure) -> dict[str, bytes]:
    """The figure as PNG and SVG, without dates and versions."""
    drawn = figure.draw()
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None, "Title": style.inert(figure.title)}}
    images = {}
    # The salt makes the ids of an SVG the same each time, and another figure's on the same page others.
    with style.applied(), mpl.rc_context({"svg.hashsalt": figure.name}):
        for ending, entries in metadata.items():
            buffer = io.BytesIO()
            drawn.savefig(buffer, format=ending, dpi=_DOTS_PER_INCH, metadata=entries)
            images[ending] = buffer.getvalue()
    return images
