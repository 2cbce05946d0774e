"""Whatever results hold, a report shows it as text: the tree of the page does not depend on it."""

from __future__ import annotations

import dataclasses
import functools
import gc
import re
import unicodedata
from unittest import mock

import html5lib
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from steering.report.characters import spelled_out
from steering.report.drawings import _CONTROLS, embed, inline_svg
from steering.report.html import render
from tests.report_rows import StandIn, run

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {"svg", "title", "desc", "defs", "g", "path", "use", "clipPath", "rect", "image", "text"}
ATTACKS = [
    "<script>alert(1)</script>",
    "</title></style></script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "--><svg onload=alert(1)><!--",
    "]]><a href=javascript:alert(1)>x</a>",
    "{{ 7 * 7 }}{% include 'report.css' %}",
    "&lt;b&gt;&#60;b&#62;\u202e\u2066\x00\x07",
]
PIECES = [*"<>&\"'`=/-!{}%; \n\u202e\x00é", "script", "<!--", "-->", "]]>", "http://evil.example/", "onerror="]
UNTRUSTED = st.one_of(st.sampled_from(ATTACKS), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))


def page_of(text):
    """A report with one text in every place that results, figures or descriptions decide about."""
    rows = []
    for row in run(run=text, model=text, concept=text, neutral=text, dtype=text, device=text, data_hash=text):
        names = (
            {"method": text + row.method, "control": text + row.control} if row.layer and row.method != "sae" else {}
        )
        features = tuple(dataclasses.replace(entry, description=text) for entry in row.features)
        parameters = {text: text, "construction": row.method} | row.parameters  # by which cells are compared
        texts = tuple(text + entry for entry in row.texts)
        rows.append(
            dataclasses.replace(
                row, features=features, parameters=parameters, texts=texts, vector_hash=text + "!", **names
            )
        )
    rows.append(dataclasses.replace(rows[1], metric="loss_neutral", status="failed", value=None, reason=text))
    return render(rows)


def skeleton(page) -> list[tuple[str, dict[str, str]]]:
    """Tag and attributes of each element, but for what attributes say in words."""
    found = []
    for element in html5lib.parse(page, namespaceHTMLElements=False).iter():
        if element.tag != "wbr":
            attributes = {str(name): value for name, value in element.items() if name not in ("title", "aria-label")}
            classes = set(attributes.pop("class", "").split()) - {"words"}  # which a column of numbers has not
            found.append((element.tag, attributes | {"class": " ".join(sorted(classes))}))
    return found


HARMLESS = "zzzz"


@functools.cache
def harmless():
    return skeleton(page_of(HARMLESS))


@settings(max_examples=6, phases=(Phase.explicit, Phase.generate))
@given(UNTRUSTED)
@example(ATTACKS[0])
@example(ATTACKS[1])
@example(ATTACKS[7])
def test_no_text_becomes_markup(text):
    with mock.patch.object(gc, "collect", return_value=0):
        page = page_of(text)
        assert skeleton(page) == harmless()
    root = html5lib.parse(page, namespaceHTMLElements=False)
    assert not [name for element in root.iter() for name, _ in element.items() if str(name).startswith("on")]
    shown = "".join(root.itertext())
    hidden = [character for character in shown if unicodedata.category(character) in ("Cc", "Cf", "Co")]
    assert set(hidden) <= {"\n"}


def test_text_is_shown_as_it_is():
    with mock.patch.object(gc, "collect", return_value=0):
        root = html5lib.parse(page_of(ATTACKS[0]), namespaceHTMLElements=False)
    completions = root.findall(".//p[@class='completion']")
    assert "".join(completions[0].itertext()).startswith("<script>alert(1)</script>")
    assert re.search(r"Steering: <script>alert\(1\)</script>", "".join(root.find(".//h1").itertext()))


@pytest.mark.parametrize("text", ATTACKS[2:])
def test_no_text_of_a_figure_becomes_markup(text):
    found = embed(StandIn(title=text + "A", caption=text, data=((text, "layer"), (text, 4))), "figure-1")
    fragment = html5lib.parseFragment(f"<div>{found.markup}</div>", namespaceHTMLElements=False)
    elements = list(fragment[0].iter())[1:]
    assert {element.tag.removeprefix(SVG) for element in elements} == DRAWN
    names = {str(name) for element in elements for name, _ in element.items()}
    assert not {name for name in names if name.startswith("on")}
    [title] = fragment.iter(f"{SVG}title")
    assert title.text == spelled_out(text + "A")
    drawn = ["".join(element.itertext()) for element in fragment.iter(f"{SVG}text")]
    assert drawn.count(spelled_out(_CONTROLS.sub(" ", text + "A"))) == 2, "as title of the axes, and in the legend"


def test_what_a_drawing_needs_not_is_dropped():
    """matplotlib writes no such thing; a later release may."""
    svg = b"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="a()">
      <script>a()</script><style>@import url(http://x)</style><foreignObject><p/></foreignObject>
      <a xlink:href="http://x"><path d="M0 0"/></a><image xlink:href="http://x/y.png" width="1"/>
      <g id="g" style="fill: url(http://x#f)" clip-path="url(#g)"><use xlink:href="#g"/></g></svg>"""
    root = html5lib.parseFragment(inline_svg(svg, "f", "t", "c"), namespaceHTMLElements=False)[0]
    found = [(element.tag.removeprefix(SVG), dict(element.items())) for element in root.iter()][3:]
    assert found == [
        ("image", {"width": "1"}),
        ("g", {"id": "f-g", "clip-path": "url(#f-g)"}),
        ("use", {"href": "#f-g"}),
    ]
