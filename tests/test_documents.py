"""What the documents show is true: examples run, commands and options exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields

import pytest

from steering.concepts import load_concept
from steering.methods import create_method, methods
from steering.metrics import metrics
from steering.profile_files import load_profile
from steering.profiles import Setting
from steering.results import Row
from steering.sweeps.sae_quality import METRICS
from steering.vectors import FeatureWeight
from tests.documents import DOCUMENTS, ROOT, code_blocks, unknown_benchmark_options, unknown_steering_options
from tests.planted import planted_activations, planted_direction
from tests.test_architecture import LAYERS

README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def commands() -> list[str]:
    lines = [line for path in DOCUMENTS for block in code_blocks(path, "console") for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("#")[0].split("&&") if part.strip()]


def test_concept_of_the_readme_loads(tmp_path):
    [toml], [pair] = code_blocks(README, "toml"), code_blocks(README, "json")
    (tmp_path / "concept.toml").write_text(toml, encoding="utf-8")
    (tmp_path / "generation.jsonl").write_text(pair, encoding="utf-8")
    other = pair.replace('"1"', '"2"').replace("The palace was quiet.", "It was late.")
    (tmp_path / "test.jsonl").write_text(other, encoding="utf-8")
    concept = load_concept(str(tmp_path))
    assert concept.name == "royalty"
    assert concept.generation[0].positive == "Only the king was awake."


def test_method_of_the_contributing_guide_works():
    [code] = code_blocks(CONTRIBUTING, "python")
    exec(compile(code, str(CONTRIBUTING), "exec"), {"__name__": "median_difference"})
    try:
        assert "median_difference" in list(methods)
        found = create_method("median_difference", {}).fit(planted_activations(planted_direction()), 5)
        assert float(found @ planted_direction()) > 0
    finally:
        del methods._entries["median_difference"]


@pytest.mark.parametrize("command", [text for text in commands() if text.startswith("pytest bench")])
def test_options_of_documented_benchmark_commands_exist(command, pytestconfig):
    assert unknown_benchmark_options(shlex.split(command)[2:], pytestconfig) == set()


@pytest.mark.parametrize("command", [text for text in commands() if text.startswith("steering ")])
def test_documented_steering_commands_exist_with_their_options(command):
    assert unknown_steering_options(shlex.split(command)[1:]) == set()


def test_documented_tox_environments_exist():
    config = (ROOT / "tox.ini").read_text(encoding="utf-8")
    named = {name for text in commands() for names in re.findall(r"tox -e (\S+)", text) for name in names.split(",")}
    assert "bench" in named
    for name in named - {"py311"}:
        assert f"[testenv:{name}]" in config


def test_readme_shows_two_commands_first():
    first = code_blocks(README, "console")[0].splitlines()
    assert len(first) == 2
    assert first[0].startswith("python -m pip install tox && python -m tox -e bench -- -k layer20")
    assert first[1].startswith("python -m tox -e py311")


def test_readme_shows_the_output_of_its_commands():
    tables, example = code_blocks(README, "text")
    cells, controls = tables.split("\n\n")
    rows = {line.split()[0]: line for line in cells.splitlines()}
    assert {"mean_difference", "feature_delta"} < {line.split()[0] for line in controls.splitlines()}
    unsteered, steered, control = (rows[name] for name in ("unsteered", "mean_difference", "random_direction"))
    success = {line: float(re.search(r"(\d\.\d+) \[", line)[1]) for line in (unsteered, steered, control)}
    assert success[steered] > 3 * success[unsteered]
    assert success[steered] > 3 * success[control]
    assert steered.split()[-1] == "holds"
    assert control.split()[-2:] == ["no", "claim"]
    assert len(example.splitlines()) == 2


def test_results_document_names_every_key_and_metric(llama):
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    setting = Setting.load(load_profile("embedded"))
    names = {name for metric in metrics for name in metrics[metric](setting, llama).names}
    assert {"rollout_probability", "loss_neutral", "one_word_success"} < names
    for name in (*names, *METRICS, *(field.name for row in (Row, FeatureWeight) for field in fields(row))):
        assert f"`{name}`" in text


def test_architecture_document_lists_every_module_in_its_layer():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    listed = [{name.rstrip("/") for name in re.findall(r"`([^`]+)`", row)} for row in rows]
    assert listed == [modules - {"__init__", "__main__"} for modules in LAYERS]


def test_profiles_are_toml_that_the_documents_link_to():
    assert tomllib.loads((ROOT / "steering/data/profiles/embedded.toml").read_text(encoding="utf-8"))["methods"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert all((path.parent / target).exists() for target in targets)
