"""The summary of a step of GitHub Actions: what is written, what fits, and what goes wrong without failing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.tables.step_summary import append_step_summary

LIMIT = 2**20


@pytest.fixture
def environment(tmp_path):
    return {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "HOME": "/nowhere"}


def written(environment) -> bytes:
    return Path(environment["GITHUB_STEP_SUMMARY"]).read_bytes()


def test_summaries_follow_each_other_as_paragraphs(environment):
    assert append_step_summary("| Δ |\n", environment) == ""
    assert append_step_summary("no end of line", environment) == ""
    assert append_step_summary("last\n", environment) == ""
    assert written(environment).decode() == "| Δ |\n\nno end of line\n\nlast\n"


@pytest.mark.parametrize("environment", [{}, {"GITHUB_STEP_SUMMARY": ""}])
def test_elsewhere_nothing_is_written(environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert append_step_summary("text", environment) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["nowhere/summary.md", "", "null\0.md"])
def test_file_that_cannot_be_written_is_a_remark(tmp_path, name):
    remark = append_step_summary("text", {"GITHUB_STEP_SUMMARY": f"{tmp_path}/{name}"})
    assert remark.startswith("The step summary was not written: GITHUB_STEP_SUMMARY names ")


@settings(max_examples=15)
@given(before=st.integers(0, LIMIT + 5), lines=st.integers(1, 30_000))
def test_no_summary_is_larger_than_a_mebibyte(tmp_path_factory, before, lines):
    path = tmp_path_factory.mktemp("step") / "summary.md"
    path.write_bytes(b"." * before)
    text = "".join(f"| Δ {line:05} | {'x' * 30} |\n" for line in range(lines))
    remark = append_step_summary(text, {"GITHUB_STEP_SUMMARY": str(path)})
    content = path.read_bytes()
    assert len(content) <= max(LIMIT, before)
    added = content[before:].decode().strip("\n")
    if remark:
        assert before + len(text.encode()) + 2 > LIMIT
        kept, _, note = added.rpartition("\n\n")
        assert text.startswith(kept)
        assert "left out" in note or not added
    else:
        assert added == text.strip("\n")


def test_summary_that_just_fits_is_whole(environment):
    assert append_step_summary("x" * (LIMIT - 1) + "\n", environment) == ""
    assert len(written(environment)) == LIMIT
    assert "1 MiB" in append_step_summary("more\n", environment)
    assert len(written(environment)) == LIMIT
