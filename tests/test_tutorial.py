"""The tutorial, followed to the letter on a small model."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.documents import ROOT, code_blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
# A small model has two blocks and a short context, and computes little in a test.
SMALLER = {"4,12,16,20,24": "0,1", "12,16,20": "0,1", "--layer 12": "--layer 1", "--rollouts 50": "--rollouts 4"}
SMALLER_PROFILE = {
    "[12, 16, 20, 24]": "[0, 1]",
    "rollouts = 100": "rollouts = 4\nnew_tokens = 4\nneutral_prompt_tokens = 4",
    "neutral_documents = 64": "neutral_documents = 4",
}


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def steps(model: Path) -> list[list[str]]:
    """The commands in their order, with a small model for the embedded one."""
    lines = [line for block in code_blocks(TUTORIAL, "console") for line in block.splitlines()]
    found = [shlex.split(replaced(line, SMALLER)) for line in lines]
    return [[str(model) if word == "embedded" else word for word in words] for words in found]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_directory: Path) -> Path:
    """A directory with the files that the tutorial has a reader write."""
    monkeypatch.chdir(tmp_path)
    [code] = code_blocks(TUTORIAL, "python")
    exec(compile(code, str(TUTORIAL), "exec"), {})
    concept, profile = code_blocks(TUTORIAL, "toml")
    (tmp_path / "weather" / "concept.toml").write_text(concept, encoding="utf-8")
    neutral = tmp_path / "neutral.jsonl"
    neutral.write_text(
        "".join(json.dumps({"text": f"The road to town {n} is long."}) + "\n" for n in range(9)), "utf-8"
    )
    names = {'model = "embedded"': f'model = "{model_directory}"', 'neutral = "embedded"': f'neutral = "{neutral}"'}
    (tmp_path / "weather.toml").write_text(replaced(profile, SMALLER_PROFILE | names), encoding="utf-8")
    return tmp_path


def test_each_step_of_the_tutorial_works(written, model_directory, bench, call, monkeypatch):
    monkeypatch.chdir(written)  # the fixture that runs pytest has gone elsewhere
    *before, last = steps(model_directory)
    assert {words[0] for words in before} == {"steering", "pytest"}
    for command, *words in before:
        if command == "pytest":
            result = bench(*words[1:])
            result.assert_outcomes(passed=4)
        else:
            status, out, err = call(*words)
            assert (status, "error" in err) == (0, False), (words, out, err)
    assert (written / "weather.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (written / "rain.safetensors").stat().st_size > 0
    assert last[:4] == ["steering", "reproduce", "--concept", "weather"]  # tests/sweeps/test_reproduction.py runs it


def test_concept_of_the_tutorial_has_the_faults_that_it_shows(written, call):
    assert call("concept", "check", "weather")[:2] == (0, "0 faults, 0 warnings\n")
