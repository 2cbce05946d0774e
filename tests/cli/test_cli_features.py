"""`steering features`, as a user calls it."""

from __future__ import annotations

import json
import re

import pytest
import torch

from steering.models.language_model import LanguageModel
from steering.sae.features import write_descriptions
from steering.sae.hooks import same_model
from steering.vectors import SteeringVector
from tests.small_saes import numpy_weights, write_sae


def test_terminal_is_not_obeyed_by_a_description(call, model_directory, neutral_file, tmp_path):
    saes = write_sae(tmp_path / "saes" / "one")
    write_descriptions(saes / "descriptions.jsonl", [{"feature": 3, "description": "kings\x1b[2J\nand queens"}])
    place = ("--layer", "1", "--model", model_directory, "--saes", saes, "--text", neutral_file, "--device", "cpu")
    status, out, err = call("features", "show", "3", *place)
    assert status == 0, err
    assert "description: kings\ufffd[2J and queens\n" in out
    assert "\x1b" not in out


@pytest.fixture
def similar(call, tmp_path, monkeypatch):
    """Compare a vector with an SAE of model "tiny"; no model is loaded."""
    monkeypatch.setattr(LanguageModel, "load", lambda *_: pytest.fail("the model was loaded"))
    saes = write_sae(tmp_path / "saes" / "one", metadata={"model_name": "org/tiny"})

    def compare(vector: SteeringVector, *options: str):
        vector.save(tmp_path / "v.safetensors")
        place = ("--layer", "1", "--saes", saes, "--device", "cpu", "--json")
        return call("features", "similar", *place, "--vector", tmp_path / "v.safetensors", *options)

    return compare


def test_given_vector_is_compared_without_a_model(similar, tmp_path):
    decoder = torch.from_numpy(numpy_weights(tmp_path / "saes" / "one")["W_dec"]).float()
    status, out, err = similar(SteeringVector(decoder[7], 1, "m", "c", "tiny"))
    assert (status, err) == (0, "")
    found = json.loads(out)
    products = decoder @ decoder[7]
    assert [entry["feature"] for entry in found] == [int(products.argmax()), int(products.argmin())]
    assert found[0]["product"] == pytest.approx(float(products.max()), abs=1e-3)


@pytest.mark.parametrize(("model", "told"), [("ORG2/Tiny", False), ("", False), ("other", True)])
def test_vector_of_another_model_than_the_sae_is_told(similar, model, told):
    status, _, err = similar(SteeringVector(torch.ones(32), 1, "m", "c", model))
    assert status == 0
    assert ("v.safetensors is of model other, and the SAE of org/tiny\n" in err) is told
    assert bool(err) is told


def test_names_of_one_model_are_known():
    assert same_model("openai-community/gpt2", "gpt2-small")
    assert not same_model("gpt2-medium", "gpt2-small")


@pytest.mark.parametrize("option", [("--concept", "gender"), ("--toward", "negative")])
def test_concept_beside_a_vector_is_refused(similar, option):
    status, out, err = similar(SteeringVector(torch.ones(32), 1, "m", "c", "tiny"), *option)
    told = f"error: {option[0]} says what a vector is constructed from, and --vector gives one: choose\n"
    assert (status, out, err) == (2, "", told)


@pytest.mark.parametrize("contexts", ["0", "-1"])
def test_fewer_than_one_context_are_a_usage_error(call, monkeypatch, contexts):
    monkeypatch.setattr(LanguageModel, "load", lambda *_: pytest.fail("the model was loaded"))
    status, out, err = call("features", "show", "3", "--layer", "1", "--contexts", contexts)
    assert (status, out) == (2, "")
    assert "Invalid value for '--contexts'" in err


def test_weights_have_the_same_decimals_and_json_the_same_numbers(call, model_directory, concept_directory, tmp_path):
    place = ("--layer", "1", "--model", model_directory, "--saes", write_sae(tmp_path / "saes" / "one"))
    options = ("--top", "1000", "--concept", concept_directory, "--device", "cpu", "--dtype", "float32")
    command = ("features", "changed", *place, *options)
    status, out, err = call(*command)
    assert status == 0, err
    shown = re.findall(r"^ +\d+ +(-?\d+\.\d+) ", out, flags=re.MULTILINE)
    weights = [entry["weight"] for entry in json.loads(call(*command, "--json")[1])]
    assert shown == [f"{weight:.4f}" for weight in weights]
    assert any(f"{weight:.4f}" != str(weight) for weight in weights), "no weight ends in 0: nothing was tested"
