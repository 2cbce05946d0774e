"""Progress goes to a terminal's standard error and nowhere else."""

from __future__ import annotations

import sys

import pytest

from steering import progress
from steering.progress import Bars, Lines, Silent, for_log, for_terminal


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_silent_reports_nothing(capfd):
    with Silent().work("reading", 3) as advance:
        assert advance() is None
        assert advance(2) is None
        assert advance(steps=100) is None
    assert Silent().note("reading …") is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("capsys")
def test_bars_are_for_terminals_alone(monkeypatch):
    pretend_terminal(monkeypatch)
    assert isinstance(for_terminal(), Bars)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert isinstance(for_terminal(), Silent)


def test_a_terminal_on_standard_output_alone_is_left_in_peace(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert isinstance(for_terminal(), Silent)
    assert capsys.readouterr() == ("", "")


def test_bars_show_the_work_on_standard_error_and_leave_standard_output_empty(capsys, monkeypatch):
    pretend_terminal(monkeypatch)
    with Bars().work("measuring losses", 4) as advance:
        advance()
        advance(3)
    output, error = capsys.readouterr()
    assert output == ""
    assert "measuring losses" in error
    assert "4/4" in error


def test_bars_are_removed_when_the_work_ends(capsys, monkeypatch):
    pretend_terminal(monkeypatch)
    with Bars().work("generating", 2) as advance:
        advance(2)
    _, error = capsys.readouterr()
    assert error.index("\x1b[?25l") < error.rindex("generating") < error.rindex("\x1b[?25h")
    assert "\x1b[2K" in error[error.rindex("generating") :]


def test_a_note_stands_on_a_line_of_its_own_above_the_bar(capsys, monkeypatch):
    pretend_terminal(monkeypatch)
    bars = Bars()
    with bars.work("pairs", 2) as advance:
        advance()
        bars.note("reply 1: no JSON")
    _, error = capsys.readouterr()
    before, after = error.split("reply 1: no JSON")
    assert before.endswith(("\r\x1b[2K", "\r\x1b[2K\x1b[2m")), "the bar is cleared first"
    assert "pairs" in after, "and drawn again below"


def test_bars_end_when_the_work_fails(capsys, monkeypatch):
    pretend_terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError), Bars().work("generating", 2) as advance:
        advance(1 // 0)
    output, error = capsys.readouterr()
    assert output == ""
    assert error.rindex("\x1b[?25h") > error.rindex("generating")
    with Bars().work("again", 1) as advance:
        advance()
    assert "1/1" in capsys.readouterr().err


@pytest.mark.usefixtures("capsys")
def test_a_log_gets_lines_and_a_terminal_bars(monkeypatch):
    pretend_terminal(monkeypatch)
    assert isinstance(for_log(), Bars)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert isinstance(for_log(), Lines)


def test_lines_are_printed_at_most_once_in_a_while_and_at_the_end(capsys, monkeypatch):
    clock = Clock(monkeypatch)
    with Lines(30).work("training layer 8", 100) as advance:
        for _ in range(7):
            clock.now += 10
            advance(10)
    output, error = capsys.readouterr()
    assert output == ""
    assert error.splitlines() == [
        "training layer 8: 30 of 100, 30 s",
        "training layer 8: 60 of 100, 60 s",
        "training layer 8: done, 70 s",
    ]


@pytest.mark.parametrize(("seconds", "told"), [(0.9, ""), (1, "reading: done, 1 s\n")])
def test_short_work_is_told_in_one_line_or_not_at_all(capsys, monkeypatch, seconds, told):
    clock = Clock(monkeypatch)
    with Lines().work("reading", 3) as advance:
        clock.now += seconds
        advance(3)
    assert capsys.readouterr().err == told


def test_lines_say_nothing_of_being_done_where_the_work_failed(capsys, monkeypatch):
    clock = Clock(monkeypatch)

    def step() -> int:
        clock.now += 6
        return 1

    with pytest.raises(ZeroDivisionError), Lines(5).work("reading", 3) as advance:
        advance(advance(step()) or 1 // 0)
    assert capsys.readouterr().err == "reading: 1 of 3, 6 s\n"


@pytest.mark.parametrize("text", ["model /a[/x]", "[bold]b[/bold]", "a :smile:", "[/]"])
def test_what_looks_like_markup_is_shown_as_it_is(capsys, monkeypatch, text):
    pretend_terminal(monkeypatch)
    Bars().note(text)
    assert text in capsys.readouterr().err
    with Bars().work(text, 2) as advance:
        advance(2)
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("reporter", [Lines(), Bars()], ids=["lines", "bars"])
def test_notes_are_lines_on_standard_error(reporter, capsys):
    reporter.note("loading model small …")
    assert capsys.readouterr() == ("", "loading model small …\n")
