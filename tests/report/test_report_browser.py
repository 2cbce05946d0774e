"""A report in a real browser: nothing is fetched, nothing goes wrong, tables sort, no page is wider than its window.

`STEERING_BENCH_CHROMIUM` names the browser; by default it is looked for among the commands. Screenshots are kept in
pytest's temporary directory, or in the directory that `STEERING_BENCH_SCREENSHOTS` names.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
from pathlib import Path
from unittest import mock

import pytest

from steering.report.html import render
from tests.contrast import contrast, rgb_shares
from tests.report_rows import StandIn, run

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("STEERING_BENCH_CHROMIUM") or next(filter(None, map(shutil.which, COMMANDS)), None)
WINDOWS = {"light": (1280, 900), "dark": (1280, 900), "phone": (390, 844)}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(COMMANDS)}; STEERING_BENCH_CHROMIUM can name one"
)


@pytest.fixture(scope="module")
def report_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    with mock.patch.object(gc, "collect", return_value=0):
        path.write_text(render(run(), [StandIn(), StandIn(name="again")]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, report_file):
    """Open the report; returns the page and what the browser said and asked for."""
    contexts = []

    def go(**options):
        contexts.append(browser.new_context(**options))
        page, said = contexts[-1].new_page(), []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.goto(report_file.as_uri())
        return page, said

    yield go
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", WINDOWS)
def test_page_opens_without_error_or_request_and_fits_its_window(visit, report_file, tmp_path, name):
    width, height = WINDOWS[name]
    scheme = "dark" if name == "dark" else "light"
    page, said = visit(color_scheme=scheme, viewport={"width": width, "height": height})
    for part in page.locator("details").all():
        part.evaluate("part => { part.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert said == [report_file.as_uri()], "the page itself, and nothing else"
    directory = Path(os.environ.get("STEERING_BENCH_SCREENSHOTS", tmp_path))
    directory.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=directory / f"{name}.png", full_page=True)
    assert (directory / f"{name}.png").stat().st_size > 10_000


def numbers(table, column):
    cells = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
    return [float(re.search(r"[+-]?[\d.]+", cell)[0]) for cell in cells if re.search(r"\d", cell)]


@pytest.mark.parametrize(("summary", "heading"), [("Cells", "P(success)"), ("Neutral documents", "worst")])
def test_headings_sort_by_number_both_ways(visit, summary, heading):
    page, said = visit()
    part = page.locator("details", has=page.get_by_text(summary, exact=True))
    part.locator("summary").click()
    table = part.locator("table")
    headings = table.locator("thead th")
    column = next(at for at, text in enumerate(headings.all_inner_texts()) if text.startswith(heading))
    before = numbers(table, column)
    for order, name in ((False, "ascending"), (True, "descending")):
        headings.nth(column).get_by_role("button").press("Enter")
        assert headings.nth(column).get_attribute("aria-sort") == name
        assert numbers(table, column) == sorted(before, reverse=order)
    assert sorted(before) != before
    assert len(said) == 1


def test_words_sort_and_what_is_absent_comes_last(visit):
    page, _ = visit()
    table = page.locator("#controls table")
    table.get_by_role("button", name="method").click()
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names)
    cells = page.locator("details", has=page.get_by_text("Cells", exact=True))
    cells.locator("summary").click()
    button = cells.get_by_role("button", name="layer")
    for _ in range(2):
        button.click()
        assert cells.locator("tbody th").all_inner_texts()[-1] == "unsteered", "it has no layer"


def test_policy_stops_what_is_not_the_reports_own(visit):
    page, said = visit()
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.foreign = 1'}),"
        "Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.foreign") is None
    assert sum("Content Security Policy" in line for line in said) == 2


def test_page_reads_without_scripts_and_prints(visit, tmp_path):
    page, said = visit(java_script_enabled=False)
    assert page.locator("th button").count() == 0
    assert page.get_by_role("heading", name="What cannot be concluded").is_visible()
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert len(said) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_every_map_cell_stands_out_as_it_is_drawn(visit, scheme):
    page, _ = visit(color_scheme=scheme)
    pairs = page.locator(".heat td[class^=step]").evaluate_all(
        "cells => cells.map(cell => [getComputedStyle(cell).color, getComputedStyle(cell).backgroundColor])"
    )
    assert len(pairs) == 18
    for pair in pairs:
        assert contrast(*(rgb_shares(colour) for colour in pair)) >= 4.5
