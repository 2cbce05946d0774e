"""Figures as parts of an HTML page: inline SVG that brings nothing along, or a PNG where that would be too large."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup

from steering.report.characters import spelled_out
from steering.report.content import Table
from steering.report.figures import style
from steering.report.figures.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_ELEMENTS = frozenset(
    (
        *("svg", "g", "defs", "use", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "clipPath"),
        *("image", "text", "tspan", "linearGradient", "radialGradient", "stop", "pattern", "mask"),
    )
)
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_DATA = "data:image/png;base64,"
#: Characters of SVG, beyond which a figure becomes a PNG where that is shorter.
LONGEST_SVG = 400_000
_DPI = 160
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True)
class Embedded:
    """A figure as markup.

    Attributes:
        title: Of the figure.
        caption: Of the figure.
        table: What was drawn.
        markup: An `svg` or an `img` element.
    """

    title: str
    caption: str
    table: Table
    markup: Markup


def embed(drawing: Figure, identifier: str) -> Embedded:
    """Draw a figure into the page.

    Args:
        drawing: The figure.
        identifier: Begins every id in the SVG, and must be no other figure's.
    """
    with style.applied(), mpl.rc_context({"svg.image_inline": True, "svg.hashsalt": identifier}):
        figure = drawing.draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        markup = inline_svg(buffer.getvalue(), identifier, drawing.title, drawing.caption)
        if len(markup) > LONGEST_SVG:
            markup = min(markup, _picture(figure, drawing.title), key=len)
    table = Table.of(f"Data of: {drawing.title}", [[_text(cell) for cell in line] for line in drawing.data])
    return Embedded(drawing.title, drawing.caption, table, markup)


def _picture(figure: Any, title: str) -> Markup:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img src="{}{}" alt="{}">').format(_DATA, encoded, spelled_out(title))


def inline_svg(svg: bytes, identifier: str, title: str, description: str) -> Markup:
    """An SVG file as an element of an HTML page.

    Elements and attributes that a drawing needs are kept, and no others: no script, style sheet, comment, handler, nor
    a link to anything outside. Ids get a prefix, so that several figures can stand on one page.
    """
    # matplotlib repeats its texts in comments, as they are: control characters, too, which are no XML.
    root = ET.fromstring(_CONTROLS.sub(" ", svg.decode()))  # noqa: S314 - matplotlib wrote it
    _clean(root, identifier)
    width = root.attrib.pop("width", "")
    root.attrib.pop("height", None)
    # matplotlib's style sheet, which would hold for the whole page, and is inherited just as well
    root.set("style", f"width: {width}; stroke-linejoin: round; stroke-linecap: butt")
    root.set("role", "img")
    root.set("aria-labelledby", f"{identifier}-title")
    for number, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{identifier}-{tag}"})
        element.text = spelled_out(text)
        root.insert(number, element)
    return Markup(ET.tostring(root, encoding="unicode", short_empty_elements=False))  # noqa: S704 - escaped


def _clean(element: ET.Element, identifier: str) -> None:
    for child in list(element):
        if isinstance(child.tag, str) and child.tag.removeprefix(_SVG) in _ELEMENTS:
            _clean(child, identifier)
        else:
            element.remove(child)
    element.tag = element.tag.removeprefix(_SVG)
    element.text = spelled_out(element.text or "")
    kept = {}
    for name, value in element.attrib.items():
        plain = "href" if name in (_LINK, "href") else name
        if plain == "href" and value.startswith("#"):
            kept[plain] = f"#{identifier}-{value[1:]}"
        elif plain == "id":
            kept[plain] = f"{identifier}-{value}"
        elif (plain == "href" and value.startswith(_DATA)) or _is_harmless(plain, value):
            kept[plain] = _REFERENCE.sub(rf"url(#{identifier}-\1)", value)
    element.attrib.clear()
    element.attrib.update(kept)


def _is_harmless(name: str, value: str) -> bool:
    outside = "url(" in _REFERENCE.sub("", value) or "//" in value
    return name != "href" and not name.startswith(("on", "{")) and not outside


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
