"""What the documents show is true: examples run, commands and options exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from dataclasses import fields
from types import ModuleType

import numpy as np
import pytest

from steering import __version__, stats
from steering.concept_files import load_concept
from steering.errors import DataError
from steering.feature_weights import FeatureWeight
from steering.methods import create_method, methods
from steering.metrics import metrics
from steering.profile_files import builtin_profiles, load_profile
from steering.profiles import MethodPlan, Profile, SaeBounds
from steering.results import Row
from steering.settings import Setting
from steering.sweeps.sae_quality import METRICS
from steering.verdicts.baselines import read_baseline
from tests.documents import DOCUMENTS, ROOT, code_blocks, unknown_benchmark_options, unknown_steering_options
from tests.methods import test_methods as conformance
from tests.test_architecture import LAYERS

README = ROOT / "README.md"
ADD_A_METHOD = ROOT / "docs" / "add-a-method.md"
# What is asked of every method, as the page says.
CONFORMANCE = (
    conformance.test_method_finds_planted_direction,
    conformance.test_method_swapping_sides_flips_sign,
    conformance.test_method_does_not_depend_on_pair_order,
    conformance.test_method_looks_at_its_own_layer,
    conformance.test_method_is_deterministic_and_leaves_its_input_alone,
)


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


def test_methods_of_the_guide_work(monkeypatch):
    before = set(methods)
    for code in code_blocks(ADD_A_METHOD, "python"):
        module = ModuleType("own_method")
        monkeypatch.setitem(sys.modules, "own_method", module)
        exec(compile(code, str(ADD_A_METHOD), "exec"), vars(module))
    added = set(methods) - before
    try:
        assert added == {"median_difference", "strongest_feature"}
        for name in added:
            for keeps in CONFORMANCE:
                keeps(create_method(name, {}))
        [profile] = code_blocks(ADD_A_METHOD, "toml")
        table = tomllib.loads(profile)["methods"]["median_difference"]
        create_method("median_difference", table["parameters"])
        with pytest.raises(DataError, match="a share of pairs above 0"):
            create_method("median_difference", {"keep": 0.0})
    finally:
        for name in added:
            del methods._entries[name]


def test_profiles_document_names_every_key_and_every_profile():
    text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    for kind in (Profile, MethodPlan, SaeBounds):
        for field in fields(kind):
            assert f"`{field.name}`" in text, field.name
    for name in builtin_profiles():
        assert f"[{name}](" in text


def test_profile_of_the_document_loads(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(code_blocks(ROOT / "docs" / "profiles.md", "toml")[0], encoding="utf-8")
    assert load_profile(str(path)).plan("mean_difference").claimed_layers == (12,)


def test_defaults_that_the_profiles_document_shows_are_the_profile_s():
    text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text, re.MULTILINE))
    assert {"rollouts", "new_tokens", "alpha", "neutral_bound", "development_documents"} <= set(shown)
    for name, value in shown.items():
        assert float(value) == getattr(Profile, name)


def test_index_links_to_every_document():
    text = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in text


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
    for name in named - {"py"}:
        assert f"[testenv:{name}]" in config


def test_readme_shows_two_commands_first():
    first = code_blocks(README, "console")[0].splitlines()
    assert len(first) == 2
    assert first[0].startswith("python -m pip install tox && python -m tox -e bench -- -k layer20")
    assert first[1].startswith("python -m tox -e py")


def test_readme_shows_the_output_of_its_commands():
    cells, example = code_blocks(README, "text")
    rows = {line.split()[0]: line for line in cells.splitlines()}
    unsteered, steered, control = (rows[name] for name in ("unsteered", "mean_difference", "random_direction"))
    success = {line: float(re.search(r"(\d\.\d+) \[", line)[1]) for line in (unsteered, steered, control)}
    assert success[steered] > 3 * success[unsteered]
    assert success[steered] > 3 * success[control]
    assert steered.split()[-1] == "holds"
    assert control.split()[-2:] == ["no", "claim"]
    assert len(example.splitlines()) == 2
    [controls] = code_blocks(ROOT / "docs" / "results.md", "text")
    for line in controls.splitlines()[2:]:
        method, _, success, control, *_ = line.split()
        assert f" {success} [" in rows[method]
        name = "random_direction" if method == "mean_difference" else f"{method}_control"
        assert f" {control} [" in rows[name]


def test_results_document_names_every_key_and_metric(llama):
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    setting = Setting.load(load_profile("embedded"))
    names = {name for metric in metrics for name in metrics[metric](setting, llama).names}
    assert {"rollout_probability", "loss_neutral", "one_word_success"} < names
    for name in (*names, *METRICS, *(field.name for row in (Row, FeatureWeight) for field in fields(row))):
        assert f"`{name}`" in text


def test_banked_values_of_the_document_are_those_of_the_baselines():
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    baselines = [
        read_baseline(ROOT / "bench" / "baselines" / f"embedded-{dtype}.json") for dtype in ("bfloat16", "float32")
    ]
    for cells in zip(*(baseline.cells for baseline in baselines), strict=True):
        line = [f"`{cells[0].method}`", str(cells[0].layer), f"{cells[0].multiplier:g}"]
        for cell in cells:
            successes = np.array(cell.scores["rollout_probability"].items)
            low, high = stats.proportion_interval(successes)
            line.append(f"{successes.mean():.3f} [{low:.3f}, {high:.3f}]")
            line.append(f"{cell.scores['loss_change_neutral'].value:+.3f}")
        assert f"| {' | '.join(line)} |" in text


def test_citation_has_the_version_and_the_licence():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in cited
    assert "\nlicense: MIT\n" in cited


def test_architecture_document_lists_every_module_in_its_layer():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    listed = [{name.rstrip("/") for name in re.findall(r"`([^`]+)`", row)} for row in rows]
    assert listed == [modules - {"__init__", "__main__"} for modules in LAYERS]


def test_profiles_are_toml_that_the_documents_link_to():
    assert tomllib.loads((ROOT / "steering/data/profiles/embedded.toml").read_text(encoding="utf-8"))["methods"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(path):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert all((path.parent / target).exists() for target in targets)
