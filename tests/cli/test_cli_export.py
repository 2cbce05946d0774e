"""`steering export`, as a user calls it."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest

from steering.cli.export import Format
from steering.journal import Journal, load_rows
from steering.tables import export, trackers
from steering.tables.captions import CAPTIONS
from tests.small_rows import configuration, small_row, unsteered_row

TEXT_FORMATS = [form for form in Format if form is not Format.parquet]


@pytest.fixture
def results(tmp_path):
    """A results directory with three cells of two runs."""
    control = configuration(layer=20, method="random", is_control=True, run="run-2")
    cells = [small_row(layer=8, items=(0.0, 1.0)), *configuration(layer=8)[1:], *control]
    Journal(tmp_path / "results").append([unsteered_row(value=0.1, low=0.05, high=0.2), *cells])
    return tmp_path / "results"


def test_each_table_is_explained_below_it(call, results, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out = call("export", results)[1]
    told = " ".join(out.split())
    assert CAPTIONS["Cells"] in told
    assert CAPTIONS["Not measured"] not in told
    assert max(map(len, out.splitlines())) <= 100


def test_error_of_our_own_is_no_regression(call, results, monkeypatch):
    monkeypatch.setattr(export, "to_text", lambda *_: 1 / 0)
    status, out, err = call("export", results)
    assert (status, out) == (3, "")
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("ZeroDivisionError: division by zero\n")


def test_aligned_tables_are_the_default(call, results):
    status, out, err = call("export", results)
    assert (status, err) == (0, "")
    assert out.startswith("Cells\n")
    header, unsteered = (
        next(line for line in out.splitlines() if name in line) for name in ("P(success)", "unsteered")
    )
    end = header.index(" CI]") + len(" CI]")
    assert unsteered[:end].endswith("0.100 [0.050, 0.200]"), "numbers end where their heading ends"


def test_tables_fit_the_terminal(call, results, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = call("export", results)
    assert max(map(len, out.splitlines())) <= 60
    assert "0.100 [0.050, 0.200]" in out


def test_file_does_not_depend_on_the_terminal(call, results, tmp_path, monkeypatch):
    _, printed, _ = call("export", results)
    monkeypatch.setenv("COLUMNS", "60")
    call("export", results, "--output", tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed


def test_markdown_holds_the_same_tables(call, results):
    status, out, err = call("export", results, "--format", "markdown")
    assert (status, err) == (0, "")
    assert out == export.to_markdown(load_rows(results))
    lines = out.splitlines()
    assert lines[0] == "### Cells"
    assert lines[2].startswith("| method | layer |")
    assert lines[4].startswith("| unsteered |")
    assert "0.500 [0.250, 0.750]" in lines[5]


@pytest.mark.parametrize("form", TEXT_FORMATS)
def test_file_holds_what_would_be_printed(call, results, tmp_path, form):
    status, printed, _ = call("export", results, "--format", form)
    assert status == 0
    assert call("export", results / "results.jsonl", "--format", form, "--output", tmp_path / "out") == (0, "", "")
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed
    assert printed.endswith("\n")


def test_file_of_another_kind_needs_a_format(call, results, tmp_path):
    status, _, message = call("export", results, "--output", tmp_path / "out.xlsx")
    assert status == 2
    assert "names of files end in .csv, .md, .tex, .parquet, .json, .txt; for another name give --format" in message
    assert not (tmp_path / "out.xlsx").exists()
    assert call("export", results, "--output", tmp_path / "out.dat", "--format", "csv")[0] == 0


@pytest.mark.parametrize(
    ("suffix", "form"), [("csv", "csv"), ("md", "markdown"), ("tex", "latex"), ("json", "json"), ("txt", "text")]
)
def test_format_is_what_the_file_s_name_ends_in(call, results, tmp_path, suffix, form):
    _, printed, _ = call("export", results, "--format", form)
    assert call("export", results, "--output", tmp_path / f"out.{suffix}") == (0, "", "")
    assert (tmp_path / f"out.{suffix}").read_text(encoding="utf-8") == printed


def test_formats_are_what_they_say(call, results):
    rows = load_rows(results)
    expected = {
        "csv": export.to_csv(rows),
        "latex": export.to_latex(export.result_tables(rows)),
        "json": export.to_json(rows),
        "bencher": trackers.to_bencher(rows),
        "benchmark-bigger": trackers.to_benchmark_action(rows, "bigger"),
        "benchmark-smaller": trackers.to_benchmark_action(rows, "smaller"),
    }
    assert {form: call("export", results, "--format", form)[1] for form in expected} == expected


def test_csv_holds_every_value_at_full_precision(call, results):
    _, out, _ = call("export", results, "--format", "csv")
    table = pd.read_csv(io.StringIO(out))
    assert table["method"].tolist() == [row.method for row in load_rows(results)]
    assert table["p_value"].tolist()[1] == 0.03125


def test_parquet_goes_to_a_file(call, results, tmp_path):
    assert call("export", results, "--format", "parquet", "--output", tmp_path / "out.parquet") == (0, "", "")
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["value"].tolist() == [row.value for row in load_rows(results)]
    status, out, err = call("export", results, "--format", "parquet")
    assert (status, out, err) == (2, "", "error: --format parquet is not text: name a file with --output\n")


def chosen(call, results, *options):
    status, out, err = call("export", results, "--format", "json", *options)
    assert (status, err) == (0, "")
    return {(row["method"], row["layer"], row["metric"]) for row in json.loads(out)}


def test_filters_take_commas(call, results):
    everything = chosen(call, results)
    metrics = ("rollout_probability", "loss_change_neutral")
    of_metrics = {place for place in everything if place[2] in metrics}
    assert chosen(call, results, "--metrics", ",".join(metrics)) == of_metrics
    methods = ("--methods", "random, unsteered")
    assert chosen(call, results, *methods) == {place for place in everything if place[0] != "mean_difference"}
    assert chosen(call, results, "--layers", "8") == {place for place in everything if place[1] in (8, None)}
    assert chosen(call, results, "--run", "last") == {place for place in everything if place[0] == "random"}


def test_pivot_is_one_metric_by_layer_and_method(call, results, tmp_path):
    options = ("--pivot", "rollout_probability")
    _, out, _ = call("export", results, *options)
    assert out.split("\n", 2)[1].split() == ["layer", "unsteered", "mean_difference", "random"]
    _, out, _ = call("export", results, *options, "--format", "markdown")
    assert out.splitlines()[0] == "| layer | unsteered | mean_difference | random |"
    _, out, _ = call("export", results, *options, "--format", "csv", "--layers", "20")
    assert pd.read_csv(io.StringIO(out)).to_dict("records") == [{"layer": 20, "unsteered": 0.1, "random": 0.5}]
    _, out, _ = call("export", results, *options, "--format", "latex")
    assert r"\begin{tabular}{rrrr}" in out
    call("export", results, *options, "--format", "parquet", "--output", tmp_path / "out")
    assert list(pd.read_parquet(tmp_path / "out")) == ["layer", "unsteered", "mean_difference", "random"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", ","), "--methods ',': give names with commas between them"),
        (("--methods", "mean_diff"), "unknown method 'mean_diff'. Did you mean 'mean_difference'? Known: "),
        (("--metrics", "loss"), "unknown metric 'loss'. "),
        (("--layers", "9"), "unknown layer '9'. Known: 8, 20."),
        (("--layers", "a"), "--layers 'a': give block numbers with commas, for instance 8,20 or 8-12"),
        (("--run", "first"), "unknown run 'first'. Known: run-1, run-2."),
        (("--pivot", "rollouts"), "unknown metric 'rollouts'. "),
        (("--pivot", "rollout_probability", "--format", "json"), "--pivot makes a table, and --format json holds none"),
        (("--methods", "mean_difference", "--run", "last"), "{results}: no row matches all of --methods, --layers, "),
    ],
)
def test_mistake_is_one_message_and_writes_nothing(call, results, tmp_path, options, message):
    (tmp_path / "out").write_text("before", encoding="utf-8")
    status, out, err = call("export", results, "--output", tmp_path / "out", *options)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message.format(results=results)}")
    assert len(err.splitlines()) == 1
    assert (tmp_path / "out").read_text(encoding="utf-8") == "before"


def test_output_that_cannot_be_written_is_one_message(call, results, tmp_path):
    (tmp_path / "file").write_text("before", encoding="utf-8")
    status, out, err = call("export", results, "--output", tmp_path / "file" / "out")
    assert (status, out) == (2, "")
    assert err == f"error: {tmp_path}/file: cannot be written: File exists\n"
    assert (tmp_path / "file").read_text(encoding="utf-8") == "before"


def test_directory_of_the_output_is_made(call, results, tmp_path):
    _, printed, _ = call("export", results)
    assert call("export", results, "--output", tmp_path / "a" / "b" / "out") == (0, "", "")
    assert (tmp_path / "a" / "b" / "out").read_text(encoding="utf-8") == printed


def test_nothing_is_one_message(call, tmp_path):
    status, out, err = call("export", tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: {tmp_path}/results.jsonl: no such file; give a results directory or its results.jsonl\n"


def test_empty_journal_is_one_message(call, tmp_path):
    Journal(tmp_path)
    assert call("export", tmp_path) == (2, "", f"error: {tmp_path}: no results in it yet\n")


def test_unknown_format_names_the_choices(call, results):
    status, _, err = call("export", results, "--format", "xml")
    assert status == 2
    assert all(form in err for form in Format)


def test_rows_of_the_development_split_have_their_own_table(call, tmp_path):
    there = {"rollouts": 8, "top_p": 0.95, "split": "development"}
    Journal(tmp_path).append([small_row(), small_row(measurement=there)])
    _, out, _ = call("export", tmp_path, "--format", "markdown")
    headings = [line for line in out.splitlines() if line.startswith("#")]
    assert headings == ["### Cells", "### Selection", "### Cells on the development split"]


@pytest.mark.parametrize("place", ["results.jsonl", "../{0}/results.jsonl"])
def test_results_are_not_written_over(call, tmp_path, place):
    Journal(tmp_path).append([small_row()])
    journal = tmp_path / "results.jsonl"
    before = journal.read_bytes()
    for source in (tmp_path, journal):
        status, out, err = call("export", source, "--output", tmp_path / place.format(tmp_path.name))
        assert (status, out) == (2, "")
        assert "is the results themselves; name another file" in err
    assert journal.read_bytes() == before
