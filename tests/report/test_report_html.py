"""The page of a report as a browser would read it: html5lib builds the tree that the HTML standard prescribes."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import html5lib
import numpy as np
import pytest

from steering import report
from steering.profile_files import load_profile
from steering.report.characters import spelled_out
from steering.report.html import render
from steering.tables.export import result_tables
from steering.verdicts import gate
from steering.verdicts.promotion import promote
from tests.contrast import contrast, hex_shares
from tests.report_rows import LAYERS, MEASUREMENT, SUCCESSES, StandIn, run

pytestmark = pytest.mark.usefixtures("without_collection")
SVG = "{http://www.w3.org/2000/svg}"
TEMPLATES = Path(report.__file__).parent / "templates"


def tree(page):
    """The document; html5lib in its strict mode refuses what the standard calls an error."""
    return html5lib.HTMLParser(namespaceHTMLElements=False, strict=True).parse(page)


def text_of(element):
    return " ".join("".join(element.itertext()).split())


def section(page, name):
    return tree(page).find(f".//section[@id='{name}']")


@pytest.fixture(scope="module")
def page():
    return render(run(), [StandIn(), StandIn(name="again")])


def test_page_is_without_errors_and_has_its_landmarks(page):
    root = tree(page)
    assert root.get("lang") == "en"
    assert [child.tag for child in root.find("body")] == ["a", "header", "main", "script"]
    assert text_of(root.find(".//h1")) == text_of(root.find(".//title")) == "Steering: royalty"
    assert root.find(".//a[@class='skip']").get("href") == "#main"
    assert root.find(".//meta[@name='viewport']") is not None


def test_sections_come_in_their_order_each_with_a_heading_that_the_contents_lead_to(page):
    root = tree(page)
    sections = root.findall(".//main/section")
    names = [entry.get("id") for entry in sections]
    assert names == [
        *(
            "verdict",
            "layers",
            "figures",
            "improvements",
            "controls",
            "completions",
            "features",
            "saes",
            "environment",
            "limits",
        ),
    ]
    assert [link.get("href") for link in root.findall(".//nav//a")] == [f"#{name}" for name in names]
    for entry in sections:
        assert entry.find("h2").get("id") == entry.get("aria-labelledby")


def test_headings_skip_no_level(page):
    levels = [int(element.tag[1]) for element in tree(page).iter() if re.fullmatch("h[1-6]", str(element.tag))]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_ids_are_unique_and_references_lead_to_them(page):
    elements = list(tree(page).iter())
    ids = [element.get("id") for element in elements if element.get("id")]
    assert len(ids) == len(set(ids))
    references = {
        reference
        for element in elements
        for name, value in element.items()
        for reference in (
            value.split()
            if name == "aria-labelledby"
            else [value[1:]]
            if "href" in str(name) and value.startswith("#")
            else re.findall(r"url\(#([^)]*)\)", value)
        )
    }
    assert len(references) > 20
    assert references <= set(ids)


def test_tables_have_captions_scopes_and_boxes_to_scroll_in(page):
    root = tree(page)
    parents = {child: parent for parent in root.iter() for child in parent}
    tables = root.findall(".//table")
    assert len(tables) > 8
    for table in tables:
        assert text_of(table.find("caption"))
        assert {heading.get("scope") for heading in table.findall("thead//th")} == {"col"}
        width = len(table.findall("thead//th"))
        for line in table.findall("tbody/tr"):
            assert [cell.get("scope") for cell in line.findall("th")] == ["row"]
            assert len(list(line)) == width
        box = parents[table]
        assert (box.get("class").split()[0], box.get("role"), box.get("tabindex")) == ("scroll", "region", "0")
        assert box.get("aria-label")


@pytest.mark.parametrize("title", ["Cells", "Neutral documents", "Controls", "Sparse autoencoders", "Features"])
def test_tables_hold_what_the_export_has(page, title):
    expected = result_tables(run())[title]
    found = [[text_of(cell) for cell in line] for line in tree(page).iter("tr")]
    start = found.index(expected[0])
    assert found[start : start + len(expected)] == expected


def test_map_has_the_value_of_every_cell(page):
    table = section(page, "layers").find(".//table")
    columns = [text_of(heading) for heading in table.findall("thead//th")]
    assert columns == ["layer", "feature_delta", "mean_difference", "random_direction control"]
    for line in table.findall("tbody/tr"):
        layer, *cells = line
        assert int(text_of(layer)) in LAYERS
        for name, cell in zip(columns[1:], cells, strict=True):
            method = name.split()[0]
            share = SUCCESSES[method][LAYERS.index(int(text_of(layer)))] / 40
            assert f"{share:.3f} " in text_of(cell)
            assert cell.get("title").startswith(f"{method}, layer {text_of(layer)}: {share:.3f} [")


def test_figures_stand_inline_with_title_and_data(page):
    figures = section(page, "figures").findall("figure")
    assert len(figures) == 2
    for figure in figures:
        svg = figure.find(f".//{SVG}svg")
        assert svg.get("role") == "img"
        assert [child.tag for child in svg][:2] == [f"{SVG}title", f"{SVG}desc"]
        assert (text_of(svg[0]), text_of(svg[1])) == (StandIn.title, StandIn.caption)
        assert svg.get("aria-labelledby") == svg[0].get("id")
        assert [text_of(cell) for cell in figure.findall(".//td")] == ["4", "0.125"]


class Crowded(StandIn):
    """A figure of more points than anybody can tell apart."""

    def draw(self):
        figure = super().draw()
        figure.axes[0].plot(*np.random.default_rng(0).random((2, 10_000)), ".")
        return figure


def test_figure_that_is_shorter_as_a_picture_becomes_one():
    image = section(render(run(), [Crowded()]), "figures").find(".//img")
    kind, data = image.get("src").split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert image.get("alt") == StandIn.title


def test_policy_allows_the_one_script_and_nothing_from_outside(page):
    root = tree(page)
    [script] = root.findall(".//script")
    [policy] = [meta.get("content") for meta in root.findall(".//meta") if meta.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert (rules["style-src"], rules["img-src"]) == ("'unsafe-inline'", "data:")
    assert script.attrib == {}
    assert page.index("Content-Security-Policy") < page.index("<style") < page.index("<script")


def test_nothing_is_fetched_and_no_attribute_runs(page):
    for element in tree(page).iter():
        assert element.tag not in ("iframe", "object", "embed", "form", "base", "audio", "video")
        for name, value in element.items():
            plain = str(name).rpartition("}")[2].rpartition(":")[2]
            assert not plain.startswith("on")
            if plain in ("href", "src", "srcset", "action", "poster", "data"):
                assert value.startswith(("#", "data:"))
            if plain == "style":
                assert "//" not in value
    [style] = tree(page).findall(".//style")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_script_is_short_and_the_page_is_whole_without_it(page):
    assert len((TEMPLATES / "report.js").read_text(encoding="utf-8").splitlines()) < 80
    assert not re.search(r"<(button|noscript)", page)


def test_same_rows_and_figures_give_the_same_page(page):
    assert render(run(), [StandIn(), StandIn(name="again")]) == page


@pytest.mark.parametrize("kind", ["success", "damage"])
def test_colours_leave_text_readable(kind):
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    found = re.findall(rf"\.{kind} \.step-(\d) {{ background: (#\w{{6}}); color: (#\w{{6}}); }}", style)
    assert [int(step) for step, _, _ in found] == [*range(10), *range(10)], "of both themes"
    for _, background, text in found:
        assert contrast(hex_shares(background), hex_shares(text)) >= 4.5


def test_baseline_has_a_section_with_its_verdicts():
    rows = run()
    report = gate.compare(promote(rows), [row for row in rows if row.layer != 20])
    found = section(render(rows, gate=report), "gate")
    verdicts = {(text_of(line[0]), text_of(line[1])): text_of(line[2]) for line in found.find(".//tbody").findall("tr")}
    assert verdicts["mean_difference", "8"] == "ok"
    assert verdicts["mean_difference", "20"] == "missing"
    assert "2 missing" in text_of(found.find("ul"))


def test_doses_and_selection_are_shown_where_there_are_any():
    budget = {"neutral_budget": 0.05, "development_loss_change": 0.04}
    rows = [*run(), *run(measurement=MEASUREMENT | {"split": "development"})]
    rows = [dataclasses.replace(row, parameters=budget) if row.layer == 8 else row for row in rows]
    root = tree(render(rows))
    headings = [[text_of(cell) for cell in table.findall("thead//th")] for table in root.findall(".//table")]
    assert any("budget" in heading for heading in headings)
    assert any("best on test" in heading for heading in headings)
    limits = [text_of(term) for term in root.findall(".//section[@id='limits']//*")]
    assert "The best layer" in limits, "the verdict still names the highest of the test split"
    assert any("The table “Selection” shows what was chosen there" in text for text in limits)


def test_only_development_rows_give_no_verdict():
    page = render(run(measurement={"rollouts": 40, "split": "development"}))
    assert "Nothing was measured on the test split" in text_of(section(page, "verdict"))


def test_profile_gives_level_and_bound():
    profile = dataclasses.replace(load_profile("embedded"), alpha=0.05, neutral_bound=0.2)
    told = text_of(section(render(run(), profile=profile), "verdict"))
    assert "at level 0.05" in told
    assert "by less than 0.2 with 95 % confidence" in told


@pytest.mark.parametrize(("bound", "layer"), [(0.1, "8"), (0.3, "20")])
def test_layer_is_chosen_under_the_bound_of_the_profile(bound, layer):
    rows = [*run(), *run(measurement=MEASUREMENT | {"split": "development"})]
    profile = dataclasses.replace(load_profile("embedded"), neutral_bound=bound)
    lines = section(render(rows, profile=profile), "doses").findall(".//tbody/tr")
    chosen = {text_of(line[0]): text_of(line[1]) for line in lines}
    assert chosen["mean_difference"] == layer


def test_prompts_are_those_of_the_profile_though_its_concept_has_a_built_in_name(concept_directory):
    path = concept_directory / "concept.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('"royalty"', '"gender"'), encoding="utf-8")
    profile = dataclasses.replace(load_profile("embedded"), concept=str(concept_directory))
    told = text_of(section(render(run(concept="gender"), profile=profile), "completions"))
    assert "Once there was" in told
    assert "My favorite doll" not in told


def test_environment_names_hashes_runs_and_settings(page):
    lines = {text_of(line[0]): text_of(line[1]) for line in section(page, "environment").find(".//tbody").findall("tr")}
    assert lines["model hash"] == "a" * 64
    assert (lines["runs"], lines["new tokens"], lines["dtype"]) == ("run-1", "12", "float32")
    assert lines["versions"] == "torch 2.0.0, python 3.11.0"


def test_limits_have_the_runs_numbers(page):
    told = {text_of(entry[0]): text_of(entry[1]) for entry in section(page, "limits").findall("dl/div")}
    assert "With 40 rollouts, a rise of P(success) by" in told["Nothing found"]
    assert "over the 6 cells" in told["Many cells"]
    assert "from 0.35 to 0.65" in told["Number of rollouts"], "Wilson's interval of 20 of 40"
    assert "small, float32, on cpu" in told["One model"]


def test_what_is_not_seen_is_shown_by_its_number():
    assert (
        spelled_out("a\u202eb\u2066\x00\x1b[1m\r\n\tc\u00a0d") == "a⟨U+202E⟩b⟨U+2066⟩⟨U+0000⟩⟨U+001B⟩[1m⟨U+000D⟩\n c d"
    )
