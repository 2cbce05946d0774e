"""The last line of a journal, which a kill may have left unfinished."""

from __future__ import annotations

import pytest

from steering.journal import FILE_NAME, Journal, load_rows
from tests.small_rows import small_row, unsteered_row


@pytest.mark.parametrize("kept", [0, 1, 100, -3, -2])
def test_a_line_cut_off_by_a_kill_is_passed_over_and_then_removed(tmp_path, kept):
    Journal(tmp_path).append([unsteered_row(), small_row()])
    path = tmp_path / FILE_NAME
    before = path.read_bytes()
    last = small_row(metric="loss_positive", texts=("plain",))
    path.write_bytes(before + (last.to_json() + "\n").encode()[:kept])
    assert load_rows(tmp_path) == [unsteered_row(), small_row()]
    journal = Journal(tmp_path)
    assert path.read_bytes() == before
    journal.append([last])
    assert load_rows(tmp_path) == [unsteered_row(), small_row(), last]


def test_a_last_line_that_is_whole_but_not_ended_is_read_and_kept(tmp_path):
    """As an editor may leave it."""
    (tmp_path / FILE_NAME).write_text(f"{unsteered_row().to_json()}\n{small_row().to_json()}", encoding="utf-8")
    assert load_rows(tmp_path) == [unsteered_row(), small_row()]
    last = small_row(metric="loss_positive")
    Journal(tmp_path).append([last])
    assert load_rows(tmp_path) == [unsteered_row(), small_row(), last]


def test_a_line_that_another_process_was_killed_in_does_not_swallow_the_next(tmp_path):
    mine, other = Journal(tmp_path), Journal(tmp_path)
    other.append([unsteered_row()])
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(small_row(metric="loss_positive").to_json().encode()[:50])
    mine.append([small_row()])
    assert load_rows(tmp_path) == [unsteered_row(), small_row()]


def test_a_line_cut_off_within_a_letter_is_passed_over(tmp_path):
    Journal(tmp_path).append([unsteered_row()])
    path = tmp_path / FILE_NAME
    line = small_row(texts=("é",)).to_json().encode()
    path.write_bytes(path.read_bytes() + line[: line.index("é".encode()) + 1])
    assert load_rows(tmp_path) == [unsteered_row()]


def test_a_first_line_cut_off_leaves_an_empty_journal(tmp_path):
    (tmp_path / FILE_NAME).write_text(small_row().to_json()[:50], encoding="utf-8")
    assert load_rows(tmp_path) == []
    Journal(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == b""
