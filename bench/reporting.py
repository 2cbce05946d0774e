"""What a benchmark run says at its end: tables, remarks, and the gate's verdict."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator, Sequence

import pytest

from bench.run import Run
from steering.concepts import TEST
from steering.journal import FILE_NAME
from steering.results import SAE, SUCCESS, UNSTEERED, Row
from steering.tables.adjustment import p_values
from steering.tables.captions import CAPTIONS
from steering.tables.cells import feature_summary, sae_summary, summary
from steering.tables.comparisons import control_summary, dose_summary
from steering.tables.controls import controls_above_unsteered
from steering.tables.detectable import detectable
from steering.tables.gate import remarks as gate_remarks
from steering.tables.gate import verdict_table
from steering.tables.markdown import markdown_list, markdown_table
from steering.tables.step_summary import append_step_summary
from steering.tables.terminal import aligned
from steering.tables.wording import layer_list, visible
from steering.verdicts import gate
from steering.verdicts.gate import GateReport

# Where output is no terminal, lines are as wide as the table needs.
_WIDTH = 200
_Table = Sequence[Sequence[str]]


def compare(run: Run) -> GateReport | None:
    """Hold what was measured against the baseline, where there is one.

    Every cell of the baseline has to be there, but for those that the command line left out.
    """
    baseline = run.request.baseline
    if baseline is None or run.obstacles:
        return None
    required = {cell.key for cell in baseline.cells} - run.deselected
    return gate.compare(baseline, run.all_rows, required=required)


def refusal(obstacles: Sequence[str]) -> str:
    """Say that nothing of a run can be compared with its baseline, in the summary of a step, too."""
    message = f"not comparable with the baseline, and nothing was measured: {'; '.join(obstacles)}"
    trouble = append_step_summary(f"## steering-bench\n\n{markdown_list([message])}", os.environ)
    return f"{message}\n{trouble}" if trouble else message


def show(run: Run, report: GateReport | None, reporter: pytest.TerminalReporter) -> None:
    """Print what was measured, what the profile claims of it, and where it is kept."""
    titled = {title: table for title, table in _tables(run) if len(table) > 1}
    remarks = list(_remarks(run, titled))
    if report is None and run.request.baseline is not None:
        remarks.append("The gate judged nothing: the run did not get to its end.")
    reporter.section("steering")
    width = shutil.get_terminal_size().columns if reporter.isatty else _WIDTH
    for title, table in titled.items():
        reporter.write_line(title, bold=True)
        _write_table(table, width, reporter)
    for line in remarks:
        reporter.write_line(visible(line))
    if report is not None:
        table, gate_lines = verdict_table(report), gate_remarks(report)
        reporter.section("gate")
        _write_table(table, width, reporter)
        for line in gate_lines:
            reporter.write_line(visible(line))
        titled["Gate"] = table
        remarks += gate_lines
        if report.exit_code:  # pytest counts tests alone, and would end on how many passed
            reporter.write_line(f"The gate does not pass: exit status {run.exit_status}.", red=True)
    reporter.write_line(f"Results: {run.request.results / FILE_NAME}")
    parts = [f"### {title}\n\n{markdown_table(table)}" for title, table in titled.items()]
    markdown = "\n".join(["## steering-bench\n", *parts, markdown_list(remarks)])
    if trouble := append_step_summary(markdown, os.environ):
        reporter.write_line(trouble)


def _write_table(table: _Table, width: int, reporter: pytest.TerminalReporter) -> None:
    """Line by line: pytest escapes a piece of text that the output's encoding has not, ends of lines included."""
    for line in aligned(table, width).removesuffix("\n").split("\n"):
        reporter.write_line(line)


def _tables(run: Run) -> Iterator[tuple[str, _Table]]:
    """Titles and tables; some may have no lines."""
    rows = run.all_rows
    claims = run.verdicts if set(run.verdicts.values()) - {"no claim"} else None  # or a column would say nothing
    on_test = run.request.setting.profile.split == TEST
    yield "Cells" if on_test else "Cells on the development split", summary(rows, claims)
    yield "Controls", control_summary(rows)
    yield "Doses", dose_summary(rows)
    yield "Features", feature_summary(rows)
    yield "Sparse autoencoders", sae_summary(rows, claims)


def nothing_selected(run: Run) -> str:
    """What there would have been to select from, where a name was mistyped."""
    cells = run.request.cells
    methods = ", ".join(dict.fromkeys(cell.method for cell in cells))
    layers = layer_list(cell.layer for cell in cells)
    return visible(f"None of the tests was selected. Methods: {methods}; layers: {layers}. --collect-only lists them.")


def _detectable(run: Run, rows: Sequence[Row]) -> str:
    """What the run could have found, so that a cell that shows nothing is read for what it is."""
    profile = run.request.setting.profile
    success = [row.value for row in rows if row.method == UNSTEERED and row.metric == SUCCESS]
    count = sum(cell.method not in profile.controls for cell in run.cells)
    if not count or not success or success[0] is None:
        return ""
    return detectable(profile.rollouts, success[0], profile.alpha, count)


def _controls_above(run: Run, rows: Sequence[Row]) -> str:
    """Whether controls appear to steer."""
    counting = p_values(rows, "p_value")
    of_controls = [counting.get(row.key) for row in rows if row.is_control and row.metric == SUCCESS]
    return controls_above_unsteered(of_controls, run.request.setting.profile.alpha)


def _remarks(run: Run, titles: Container[str]) -> Iterator[str]:
    """What has to be said under the tables of these titles."""
    request, rows = run.request, run.all_rows
    if any(row.method != SAE for row in rows):
        yield f"Cells: {CAPTIONS['Cells']}"
    if "Controls" in titles:
        yield f"Controls: {CAPTIONS['Controls']}"
    if detectable_rise := _detectable(run, rows):
        yield detectable_rise
    if doubt := _controls_above(run, rows):
        yield doubt
    yield from (*request.notes, *run.notes)
    if request.waiver:
        yield f"No claim was tested: {request.waiver}."
    elif "no claim" in run.verdicts.values():
        yield f"no claim: profile {request.setting.profile.name!r} claims nothing there; the values are recorded."
    selected = len(run.cells) + len(run.sae_layers)
    if len(run.verdicts) < selected:
        yield f"Not finished: {len(run.verdicts)} of {selected} tests were measured. --resume goes on from there."
    if request.resumes and (found := sum(row.run != request.name for row in rows)):
        yield f"{found} of {len(rows)} values are of an earlier run."
