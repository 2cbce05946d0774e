"""`steering report`, as a user calls it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from steering.journal import Journal, load_rows
from steering.report.html import render
from steering.verdicts.baselines import write_baseline
from steering.verdicts.promotion import promote
from tests.report_rows import StandIn, run

pytestmark = pytest.mark.usefixtures("without_collection")


@pytest.fixture
def figures(monkeypatch):
    """Each report has one figure."""
    module = ModuleType("steering.report.figures")
    module.figures_of = lambda rows, level: [StandIn(caption=f"{len(rows)} rows at level {level:g}")]
    monkeypatch.setitem(sys.modules, "steering.report.figures", module)


@pytest.fixture
def results(tmp_path, figures):
    """A results directory."""
    Journal(tmp_path / "results").append(run())
    return tmp_path / "results"


def test_report_is_written_to_the_working_directory(call, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call("report", results)
    rows = load_rows(results)
    assert (status, err) == (0, "")
    assert out.startswith(f"report.html: {len(rows)} values, ")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == render(rows, [StandIn(caption=f"{len(rows)} rows at level 0.01")])


def test_figures_have_the_level_of_the_profile(call, results, tmp_path, profile_file):
    profile_file.write_text(f"alpha = 0.02\n{profile_file.read_text(encoding='utf-8')}", encoding="utf-8")
    options = ("--output", tmp_path / "out.html", "--profile", profile_file)
    assert call("report", results, *options)[0] == 0
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert f"{len(load_rows(results))} rows at level 0.02" in page


def test_directory_of_the_report_is_made(call, results, tmp_path):
    status, _, err = call("report", results, "--output", tmp_path / "runs" / "may" / "monday.html")
    assert (status, err) == (0, "")
    assert (tmp_path / "runs" / "may" / "monday.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_directory_that_cannot_be_made_is_told_before_anything_is_drawn(call, results, monkeypatch):
    monkeypatch.setattr(sys.modules["steering.report.figures"], "figures_of", pytest.fail)
    journal = results / "results.jsonl"
    status, out, err = call("report", results, "--output", journal / "no" / "where.html")
    assert (status, out) == (2, "")
    assert err == f"error: {journal}/no: cannot be written: Not a directory\n"


def test_baseline_and_profile_are_shown(call, results, tmp_path, profile_file):
    write_baseline(promote(load_rows(results)), tmp_path / "baseline.json")
    options = ("--output", tmp_path / "out.html", "--gate", tmp_path / "baseline.json", "--profile", profile_file)
    status, _, err = call("report", results / "results.jsonl", *options)
    assert (status, err) == (0, "")
    assert "6 cells: 6 ok" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_cells_of_the_baseline_that_were_not_to_be_measured_are_not_missing(call, results, tmp_path):
    rows = load_rows(results)
    write_baseline(promote(rows), tmp_path / "baseline.json")
    Journal(tmp_path / "some").append([row for row in rows if row.layer in (None, 20)])
    options = ("--output", tmp_path / "out.html", "--gate", tmp_path / "baseline.json")
    assert call("report", tmp_path / "some", *options)[0] == 0
    assert " missing" in (tmp_path / "out.html").read_text(encoding="utf-8")
    assert call("report", tmp_path / "some", *options, "--layers", "20")[0] == 0
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert " missing" not in page
    assert "2 cells: 2 ok" in page


def test_cells_that_were_not_chosen_are_not_new(call, results, tmp_path):
    write_baseline(promote(load_rows(results)), tmp_path / "baseline.json")
    options = ("--output", tmp_path / "out.html", "--gate", tmp_path / "baseline.json", "--layers", "20")
    assert call("report", results, *options)[0] == 0
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "2 cells: 2 ok" in page
    assert "not in the baseline" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("nowhere",), "nowhere: no such file; give a results directory"),
        (("{results}", "--layers", "20"), "--methods and --layers choose cells of a baseline: give it with --gate"),
        (("{results}", "--profile", "embeded"), "unknown profile 'embeded'. Did you mean 'embedded'?"),
        (("{results}", "--gate", "nowhere"), "nowhere: no such baseline; `steering baseline promote` writes one"),
        (
            ("{results}", "--output", "report.pdf"),
            "--output report.pdf: a report is a web page, whose name ends in .html",
        ),
        (("{results}", "--output", "{results}/results.jsonl"), "--output {results}/results.jsonl is the results"),
        (("{results}", "--output", "{results}"), "--output {results}: a directory; give the file to write"),
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


def test_run_of_a_small_model_gives_a_report(bench, call, arguments, figures, tmp_path, capsys):
    bench(*arguments, "-k", "layer1").assert_outcomes(passed=2, deselected=2)
    capsys.readouterr()  # the run's progress
    output = tmp_path / "report.html"
    status, _, err = call("report", tmp_path / "results", "--output", output)
    assert (status, err) == (0, "")
    page = output.read_text(encoding="utf-8")
    assert "No method was found to steer." in page
    assert "Keywords are not highlighted" in page, "the concept is the user's own, and no --profile names it"
    for row in load_rows(tmp_path / "results"):
        if row.metric == "rollout_probability" and row.layer is not None:
            assert f"{row.method}, layer 1: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}], n = 8" in page
