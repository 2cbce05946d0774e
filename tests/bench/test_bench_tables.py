"""What `pytest bench` prints where the output's encoding has fewer letters than a table."""

from __future__ import annotations

import io

from _pytest._io import TerminalWriter

from bench.reporting import _write_table


class Reporter:
    """pytest's writer to a file that takes ASCII alone."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        self._writer = TerminalWriter(io.TextIOWrapper(self.bytes, encoding="ascii", write_through=True))

    def write_line(self, line: str) -> None:
        self._writer.line(line)


def test_table_keeps_its_lines_where_letters_are_escaped():
    reporter = Reporter()
    _write_table([["method", "×", "Δ loss"], ["mean_difference", "3", "+0.1"]], 80, reporter)
    lines = [line.split() for line in reporter.bytes.getvalue().decode("ascii").splitlines() if line.strip()]
    assert lines[0] == ["method", "\\xd7", "\\u0394", "loss"]
    assert lines[-1] == ["mean_difference", "3", "+0.1"]


def test_column_of_claims_is_there_where_one_was_tested(bench, arguments, profile_file):
    """With another model than the profile's, no claim is tested; the profile's own is, where nothing is another."""
    headings = [line.split() for line in bench(*arguments).stdout.lines if "P(success)" in line.split()]
    assert headings
    assert all("claim" not in heading for heading in headings)
    given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    text = profile_file.read_text(encoding="utf-8").replace("[methods", "rollouts = 8\n[methods", 1)
    for key, was in (("model", "embedded"), ("concept", "gender"), ("neutral", "embedded")):
        text = text.replace(f'{key} = "{was}"', f'{key} = "{given[key]}"')
    profile_file.write_text(text, encoding="utf-8")
    headings = [line.split() for line in bench(*arguments).stdout.lines if "P(success)" in line.split()]
    assert headings[0][-1] == "claim"
