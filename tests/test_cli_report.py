"""`steering report`, as a user calls it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from steering.baselines import write_baseline
from steering.promotion import promote
from steering.report.html import render
from steering.results import Journal, load_rows
from tests.report_rows import StandIn, run

pytestmark = pytest.mark.usefixtures("without_collection")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results directory; each report of it has one figure."""
    figures = ModuleType("steering.report.figures")
    figures.figures_of = lambda rows: [StandIn(caption=f"{len(rows)} rows")]
    monkeypatch.setitem(sys.modules, "steering.report.figures", figures)
    Journal(tmp_path / "results").append(run())
    return tmp_path / "results"


def test_report_is_written_to_the_working_directory(call, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call("report", results)
    rows = load_rows(results)
    assert (status, err) == (0, "")
    assert out.startswith(f"report.html: {len(rows)} values, ")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == render(rows, [StandIn(caption=f"{len(rows)} rows")])


def test_baseline_and_profile_are_shown(call, results, tmp_path, profile_file):
    write_baseline(promote(load_rows(results)), tmp_path / "baseline.json")
    options = ("--output", tmp_path / "out.html", "--gate", tmp_path / "baseline.json", "--profile", profile_file)
    status, _, err = call("report", results / "results.jsonl", *options)
    assert (status, err) == (0, "")
    assert "6 cells: 6 ok" in (tmp_path / "out.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("nowhere",), "nowhere: no such file; give a results directory"),
        (("{results}", "--profile", "embeded"), "unknown profile 'embeded'. Did you mean 'embedded'?"),
        (("{results}", "--gate", "nowhere"), "nowhere: no such baseline; `steering baseline promote` writes one"),
        (("{results}", "--output", "{results}/results.jsonl"), "--output {results}/results.jsonl is the results"),
        (("{results}", "--output", "{results}/no/where"), "{results}/no/where: cannot be written: No such file"),
    ],
)
def test_mistake_is_one_message_and_writes_nothing(call, results, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    before = (results / "results.jsonl").read_bytes()
    status, out, err = call("report", *(option.format(results=results) for option in options))
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message.format(results=results)}")
    assert len(err.splitlines()) == 1
    assert (results / "results.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


def test_empty_journal_is_one_message(call, tmp_path, results):
    Journal(tmp_path / "empty")
    assert call("report", tmp_path / "empty") == (2, "", f"error: {tmp_path}/empty: no results in it yet\n")
