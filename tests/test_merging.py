"""Joining the journals of a run's parts."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steering.cli.main import app
from steering.errors import ResultsError
from steering.journal import FILE_NAME, Journal, load_rows
from steering.merging import merge, write_merged
from steering.results import Row
from tests.gate_rows import failed
from tests.small_rows import small_row, unsteered_row


def journal(directory: Path, *rows: Row) -> Path:
    Journal(directory).append(rows)
    return directory


ONE, TWO, THREE = (small_row(layer=layer, items=(1.0, 0.0), n=2) for layer in (1, 2, 3))


def test_parts_are_joined_and_what_they_share_stands_there_once(tmp_path):
    first = journal(tmp_path / "a", unsteered_row(run="a"), ONE)
    second = journal(tmp_path / "b", unsteered_row(run="b"), TWO)
    third = journal(tmp_path / "c", unsteered_row(run="c"), THREE)
    rows = merge([first, second, third])
    assert [row.layer for row in rows] == [None, 1, 2, 3]
    assert rows[0].run == "a"
    assert load_rows(write_merged(rows, tmp_path / "whole")) == rows


def test_parts_that_are_one_run_each_become_one(tmp_path):
    """So that `--run last` takes all of them."""
    parts = [
        journal(tmp_path / run, unsteered_row(run=run), dataclasses.replace(row, run=run))
        for run, row in (("b", ONE), ("a", TWO))
    ]
    assert [row.run for row in merge(parts)] == ["b"] * 3


def test_order_of_the_parts_changes_no_measurement(tmp_path):
    parts = [journal(tmp_path / name, unsteered_row(), row) for name, row in (("a", ONE), ("b", TWO))]
    there, back = (merge(order) for order in (parts, parts[::-1]))
    assert sorted(map(Row.to_json, there)) == sorted(map(Row.to_json, back))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"value": 0.0, "items": (0.0, 0.0)}, "0.5 (n = 2) in {a}, 0.0 (n = 2) in {b}"),
        ({"items": (0.0, 1.0)}, "other items in {a} than in {b}, though 0.5 (n = 2) in both"),
        ({"texts": ("x", "y")}, "other items in {a} than in {b}"),
        ({"status": "failed", "value": None, "reason": "NaN"}, "0.5 (n = 2) in {a}, failed in {b}"),
        ({"vector_hash": "d" * 64}, "what was added in {a} is not what was added in {b}"),
        (
            {"control": "noise", "p_control": 0.5},
            "it is held against control '' (p = None) in {a}, and held against control 'noise' (p = 0.5) in {b}",
        ),
        ({"is_control": True}, "it is held against control '' (p = None) in {a}, and a control in {b}"),
        ({"p_value": 0.25}, "another interval, p value or reason in {a} than in {b}, though 0.5 (n = 2) in both"),
        ({"low": 0.125}, "another interval, p value or reason in {a} than in {b}, though 0.5 (n = 2) in both"),
    ],
)
def test_contradiction_is_refused_with_both_values_and_places(tmp_path, changes, told):
    first = journal(tmp_path / "a", ONE)
    second = journal(tmp_path / "b", small_row(**({"layer": 1, "items": (1.0, 0.0), "n": 2} | changes)))
    with pytest.raises(ResultsError) as caught:
        merge([first, second])
    message = str(caught.value)
    assert message.startswith("mean_difference-layer1: rollout_probability was measured twice, and differently: ")
    assert told.format(a=first, b=second) in message


def test_repetition_within_one_journal_is_no_contradiction(tmp_path):
    directory = journal(tmp_path / "a", small_row(value=0.25, n=4), small_row(value=0.5, n=4))
    assert [row.value for row in merge([directory])] == [0.5]


def test_existing_results_are_left_alone(tmp_path):
    directory = journal(tmp_path / "a", ONE)
    before = (directory / FILE_NAME).read_bytes()
    with pytest.raises(ResultsError, match="exists already; give a directory without results"):
        write_merged([TWO], directory)
    assert (directory / FILE_NAME).read_bytes() == before


def test_disk_that_fills_up_leaves_nothing_half_written(tmp_path, fill_disk):
    fill_disk()
    with pytest.raises(ResultsError, match="cannot be written: No space left on device"):
        write_merged([ONE], tmp_path / "whole")
    assert list((tmp_path / "whole").iterdir()) == []


def test_command_joins_and_says_so(tmp_path):
    parts = [str(journal(tmp_path / name, row)) for name, row in (("a", ONE), ("b", TWO))]
    result = CliRunner().invoke(app, ["merge", *parts, "--output", str(tmp_path / "whole")])
    assert (result.exit_code, result.output.startswith("2 values of 2 sources: ")) == (0, True)
    assert [row.layer for row in load_rows(tmp_path / "whole")] == [1, 2]


def test_part_without_results_is_named_and_none_at_all_is_refused(tmp_path):
    parts = [str(journal(tmp_path / "a", ONE)), str(journal(tmp_path / "empty"))]
    result = CliRunner().invoke(app, ["merge", *parts, "--output", str(tmp_path / "whole")])
    assert result.exit_code == 0
    assert f"note: {parts[1]} has no results" in result.stderr
    with pytest.raises(ResultsError, match="there is nothing to merge"):
        merge([tmp_path / "empty"])


def test_parts_of_different_runs_are_told(tmp_path):
    parts = [str(journal(tmp_path / "a", ONE)), str(journal(tmp_path / "b", replace(TWO, dtype="float16")))]
    result = CliRunner().invoke(app, ["merge", *parts, "--output", str(tmp_path / "whole")])
    assert "the sources are no parts of one run: they differ in dtype" in result.stderr


def test_cell_that_only_one_part_had_a_vector_for_is_a_contradiction(tmp_path):
    lost = failed([small_row()], "no feature", vector_hash="", parameters={"top": 3})
    parts = [journal(tmp_path / "a", small_row()), journal(tmp_path / "b", *lost)]
    for order in (parts, parts[::-1]):
        with pytest.raises(ResultsError, match="was measured twice, and differently"):
            merge(order)
    assert len(merge([journal(tmp_path / "c", small_row(), *lost)])) == 2


def test_part_that_is_given_twice_is_refused(tmp_path):
    part = journal(tmp_path / "a", ONE)
    with pytest.raises(ResultsError, match="a was given more than once; give each part once"):
        merge([part, part / FILE_NAME])


def test_part_that_is_given_under_two_names_is_refused(tmp_path):
    part = journal(tmp_path / "a", ONE)
    (tmp_path / "b").symlink_to(part)
    with pytest.raises(ResultsError, match="was given more than once; give each part once"):
        merge([part, tmp_path / "b"])


def test_cells_that_differ_in_the_p_value_against_their_control_alone_contradict_each_other(tmp_path):
    found = {"a": small_row(control="noise", p_control=0.5), "b": small_row(control="noise", p_control=0.25)}
    first, second = (journal(tmp_path / name, row) for name, row in found.items())
    with pytest.raises(ResultsError, match="held against control 'noise'"):
        merge([first, second])
