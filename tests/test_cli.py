"""The `steering` command, as a user calls it."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from steering import cli, embedded
from steering.errors import FetchError
from steering.results import Journal
from tests.small_rows import small_row, unsteered_row


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command; return exit status, standard output and standard error."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steering", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return invoke


@pytest.fixture
def results(tmp_path):
    """A results directory with two rows."""
    Journal(tmp_path / "results").append([unsteered_row(value=0.1, low=0.05, high=0.2), small_row()])
    return tmp_path / "results"


def test_export_prints_the_summary_as_markdown_by_default(call, results):
    status, out, err = call("export", results)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("| method | layer |")
    assert lines[2].startswith("| unsteered |")
    assert "0.500 [0.250, 0.750]" in lines[3]


def test_export_csv_holds_every_value_at_full_precision(call, results):
    _, out, _ = call("export", results / "results.jsonl", "--format", "csv")
    table = pd.read_csv(io.StringIO(out))
    assert table["method"].tolist() == ["unsteered", "mean_difference"]
    assert table["p_value"].tolist()[1] == 0.03125


def test_export_of_nothing_is_one_message(call, tmp_path):
    status, out, err = call("export", tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: {tmp_path}/results.jsonl: no such file; give a results directory or its results.jsonl\n"


def test_export_of_an_empty_journal_is_one_message(call, tmp_path):
    Journal(tmp_path)
    status, out, err = call("export", tmp_path)
    assert (status, out, err) == (2, "", f"error: {tmp_path}: no results in it yet\n")


def test_unknown_format_names_the_choices(call, results):
    status, _, err = call("export", results, "--format", "xml")
    assert status == 2
    assert "csv" in err
    assert "markdown" in err


def test_list_names_what_exists(call):
    _, out, _ = call("list")
    kinds = dict(line.split(":", 1) for line in out.splitlines())
    assert kinds["concepts"].strip() == "gender"
    assert kinds["methods"].strip() == "mean_difference, random_direction"
    assert "embedded" in kinds["profiles"]


def test_fetch_reports_what_went_wrong(call, monkeypatch):
    def fail() -> None:
        raise FetchError("no network")

    monkeypatch.setattr(embedded, "ensure_embedded_model", fail)
    assert call("fetch") == (2, "", "error: no network\n")


def test_help_names_every_command(call):
    status, out, _ = call("--help")
    assert status == 0
    assert all(name in out for name in ("export", "fetch", "list"))
