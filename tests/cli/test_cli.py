"""The `steering` command, as a user calls it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.cli import options
from steering.errors import DataError, FetchError
from steering.journal import Journal
from steering.models import embedded
from steering.models.language_model import LanguageModel
from steering.sae.features import write_descriptions
from steering.vectors import SteeringVector
from tests.documents import ROOT
from tests.small_rows import small_row
from tests.small_saes import write_sae


def test_list_names_what_exists(call):
    _, out, _ = call("list")
    kinds = dict(line.split(":", 1) for line in out.splitlines())
    concepts = sorted(path.parent.name for path in (ROOT / "steering" / "data" / "concepts").glob("*/concept.toml"))
    assert kinds["concepts"].strip() == ", ".join(concepts)
    files = sorted(path.stem for path in (ROOT / "steering" / "methods").glob("[!_]*.py"))
    assert kinds["methods"].strip() == ", ".join(files)
    assert "embedded" in kinds["profiles"]


def test_version_is_that_of_the_package(call):
    assert call("--version") == (0, f"steering-bench {importlib.metadata.version('steering-bench')}\n", "")


def test_fetch_reports_what_went_wrong(call, monkeypatch):
    def fail() -> None:
        raise FetchError("no network")

    monkeypatch.setattr(embedded, "ensure_embedded_model", fail)
    assert call("fetch") == (2, "", "error: no network\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("vector", "build", "--method", "mean_difference", "--output", "v.safetensors"),
        ("concept", "check", "gender", "--model", "embedded"),
    ],
)
def test_layer_that_a_model_lacks_is_named_before_the_model_is_loaded(call, monkeypatch, arguments):
    monkeypatch.setattr(LanguageModel, "load", lambda *_: pytest.fail("the model was loaded"))
    status, _, err = call(*arguments, "--layers", "30")
    assert (status, err) == (2, "error: unknown layer '30'. Known: 0 to 29. Model: embedded.\n")


def test_help_names_every_command(call):
    status, out, _ = call("--help")
    assert status == 0
    assert all(name in out for name in ("export", "fetch", "list", "sae", "features", "vector", "concept"))


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        ("sae", ("train", "evaluate", "describe")),
        ("features", ("search", "show", "changed", "similar")),
        ("vector", ("build", "show", "apply", "export")),
        ("concept", ("generate", "check", "list", "show")),
    ],
)
def test_help_of_a_group_names_its_commands(call, group, commands):
    status, out, _ = call(group, "--help")
    assert status == 0
    assert all(f" {name} " in out for name in commands)


@pytest.mark.parametrize("group", ["sae", "features", "vector", "concept"])
def test_group_without_a_command_shows_its_help(call, group):
    _, out, err = call(group)
    assert "--help" in out + err


def training(*options: str) -> tuple[str, ...]:
    return ("sae", "train", "--corpus", "texts", "--output", "out", "--work", "work", *options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (training("--layers", "a,b"), "--layers 'a,b': give block numbers with commas, for instance 8,20 or 8-12"),
        (training("--layers", "8;20"), "--layers '8;20': give block numbers with commas, for instance 8,20 or 8-12"),
        (training("--layers", ""), "--layers '': give block numbers with commas, for instance 8,20 or 8-12"),
        (training("--layers=-1,3"), "--layers '-1,3': blocks are counted from 0"),
        (training("--layers", "8", "--dtype", "float8"), "dtype 'float8': choose one of auto, float32, bfloat16"),
        (training("--layers", "8", "--k", "0"), "SAE recipe: k is 0; it must be above 0"),
        (training("--layers", "8", "--model", "/nowhere"), "model '/nowhere': no such file or directory"),
        (("sae", "evaluate", "./nowhere", "--corpus", "texts"), "unknown SAEs './nowhere'. Known: embedded. Or give a"),
        (("sae", "describe", "/nowhere", "--corpus", "texts"), "unknown SAEs '/nowhere'"),
        (("sae", "describe", "./gpt2-small-res-jb", "--corpus", "texts"), "unknown SAEs './gpt2-small-res-jb'"),
        (
            ("sae", "describe", "gpt2-small-res-jb", "--corpus", "texts"),
            "SAE release 'gpt2-small-res-jb': descriptions are written beside an SAE in a directory; load it with",
        ),
        (("features", "search", "king", "--layer", "0", "--saes", "./nowhere"), "unknown SAEs './nowhere'"),
    ],
)
def test_mistake_is_one_message_before_anything_is_read_or_written(call, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    last = err.splitlines()[-1]
    assert (status, out) == (2, "")
    assert last.startswith(f"error: {message}")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("sae", "train", "--layers", "8"),
        ("features", "show", "1"),
        ("features", "show", "first"),
        ("features", "changed", "--layer", "8", "--toward", "sideways"),
    ],
)
def test_missing_or_malformed_arguments_are_a_usage_error(call, arguments):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


@given(layers=st.lists(st.integers(0, 200), min_size=1), spaces=st.sampled_from(["", " "]))
def test_layers_are_parsed_to_a_sorted_tuple(layers, spaces):
    assert options.parse_layers(f",{spaces}".join(map(str, layers))) == tuple(sorted(set(layers)))


@pytest.mark.parametrize(
    ("text", "layers"), [("8-12", (8, 9, 10, 11, 12)), ("3, 0-1,1-2", (0, 1, 2, 3)), ("5-5", (5,)), ("07-8", (7, 8))]
)
def test_ranges_of_layers_hold_both_ends(text, layers):
    assert options.parse_layers(text) == layers


@pytest.mark.parametrize("text", ["8-", "1-2-3", "8-a", ","])
def test_what_is_no_range_of_layers_is_refused(text):
    with pytest.raises(DataError, match="give block numbers with commas, for instance 8,20 or 8-12"):
        options.parse_layers(text)


@pytest.mark.parametrize(("span", "fault"), [("12-8", "the first block of a range is"), ("0-99999", "100000 blocks,")])
def test_range_that_no_model_has_is_refused(span, fault):
    with pytest.raises(DataError, match=f"--layers '{span}': {fault}"):
        options.parse_layers(f"3,{span}")


@pytest.fixture
def saes(tmp_path):
    """An SAE of block 1, two of whose features are described by words of the concept."""
    directory = write_sae(tmp_path / "saes" / "one", hook_name="blocks.1.hook_resid_post")
    texts = {feature: f"about {feature}" for feature in range(64)} | {5: "a king | a ruler", 9: "two queens"}
    write_descriptions(directory / "descriptions.jsonl", [{"feature": k, "description": v} for k, v in texts.items()])
    return directory.parent


def test_features_are_searched_by_whole_words(call, saes):
    status, out, err = call("features", "search", "KING", "queen", "--layer", "1", "--saes", saes, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == [
        {"feature": 5, "description": "a king | a ruler"},
        {"feature": 9, "description": "two queens"},
    ]
    _, table, _ = call("features", "search", "king", "--layer", "1", "--saes", saes)
    assert table.split()[:2] == ["feature", "description"]
    assert "5   a king | a ruler" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("emperor", "--layer", "1"), "no feature's description holds any of 'emperor' (64 descriptions in "),
        (("king", "--layer", "0"), "no SAE for layer 0 in 'saes'; there are SAEs for the layers 1"),
        (("king", "--layer", "1", "--descriptions", "no.jsonl"), "no.jsonl: no such file of feature descriptions"),
    ],
)
def test_search_that_finds_nothing_is_one_message(call, saes, arguments, message):
    status, out, err = call("features", "search", *arguments, "--saes", saes)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "1", "--text", "nothing.jsonl"), "unknown neutral set 'nothing.jsonl'. Known: embedded, "),
        (("show", "1", "--layer", "0"), "no SAE for layer 0 in 'saes'; there are SAEs for the layers 1"),
        (("changed", "--layer", "7"), "no SAE for layer 7 in 'saes'; there are SAEs for the layers 1"),
        (("changed", "--method", "mean_difference"), "method 'mean_difference' decodes no features; choose "),
        (("changed", "--method", "feature_dlta"), "unknown method 'feature_dlta'. Did you mean 'feature_delta'?"),
        (("changed", "--parameters", "{"), "--parameters '{': not JSON: "),
        (("changed", "--parameters", "[1]"), "--parameters '[1]': a JSON object is required"),
        (("changed", "--parameters", '{"tops": 3}'), "unknown parameter of method feature_delta 'tops'. Did you mean"),
        (("changed", "--concept", "gendr"), "unknown concept 'gendr'. Did you mean 'gender'?"),
        (("similar", "--concept", "gendr"), "unknown concept 'gendr'. Did you mean 'gender'?"),
        (("similar", "--vector", "nowhere.safetensors"), "nowhere.safetensors: no such file"),
        (("similar", "--vector", "v.safetensors"), "v.safetensors: its layer is 20, and --layer is 1; they must be"),
    ],
)
def test_mistake_about_features_is_one_message_before_the_model_is_loaded(
    call, saes, arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    SteeringVector(torch.ones(32), 20, "m", "c", "x").save(tmp_path / "v.safetensors")
    command, *rest = arguments
    place = ("--layer", "1", "--model", "/nowhere", "--saes", saes)
    status, out, err = call("features", command, *place, *rest)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def test_feature_that_the_sae_does_not_have_is_one_message(call, model_directory, saes):
    place = ("--layer", "1", "--model", model_directory, "--saes", saes, "--device", "cpu")
    status, out, err = call("features", "show", "64", *place)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == f"error: feature 64: SAE {saes.name}/one has the features 0 to 63"
    assert "Traceback" not in err


def test_features_that_a_concept_changes_most_come_first(call, model_directory, concept_directory, saes):
    place = ("--layer", "1", "--model", model_directory, "--saes", saes, "--dtype", "float32", "--device", "cpu")
    options = ("--concept", concept_directory, "--json")
    weights = {}
    for toward in ("positive", "negative"):
        status, out, _ = call("features", "changed", *place, *options, "--toward", toward, "--top", "7")
        assert status == 0
        found = json.loads(out)
        sizes = [abs(entry["weight"]) for entry in found]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == 7
        assert all("about" in entry["description"] or entry["feature"] in (5, 9) for entry in found)
        weights[toward] = {entry["feature"]: entry["weight"] for entry in found}
    assert weights["positive"] == {feature: -weight for feature, weight in weights["negative"].items()}


def test_full_disk_on_standard_output_is_one_message():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("w") as output:
        command = [sys.executable, "-m", "steering", "concept", "list"]
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: standard output cannot be written: ")


def test_reader_that_leaves_early_is_told_from_a_verdict_of_the_command():
    closed, output = os.pipe()
    os.close(closed)
    try:
        command = [sys.executable, "-m", "steering", "concept", "list"]
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(output)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_file_name_that_is_no_text_is_printed_as_far_as_it_is_one(tmp_path):
    Journal(tmp_path / "results").append([small_row()])
    output = os.fsencode(tmp_path) + b"/caf\xe9"
    command = [sys.executable, "-m", "steering", "merge", tmp_path / "results", "--output", output]
    found = subprocess.run(command, capture_output=True, check=True)
    assert Path(os.fsdecode(output)).exists()
    assert b"/caf\\udce9" in found.stdout


def test_file_that_no_message_of_our_own_names_is_named(tmp_path):
    command = [sys.executable, "-m", "steering", "vector", "show", str(tmp_path / ("a" * 300 + "\x1b]0;b\x07"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path}/aaa" in ended.stderr
    assert "\x1b" not in ended.stderr
    assert "standard output" not in ended.stderr


def test_control_characters_of_a_message_do_not_reach_the_terminal(call, tmp_path):
    status, _, err = call("vector", "show", tmp_path / "a\x1b]0;b\x07")
    assert status == 2
    assert "\x1b" not in err
    assert "no such file" in err
