"""`steering features`, as a user calls it."""

from __future__ import annotations

import json
import re

import pytest

from steering.models.language_model import LanguageModel
from steering.sae.features import write_descriptions
from tests.small_saes import write_sae


def test_terminal_is_not_obeyed_by_a_description(call, model_directory, neutral_file, tmp_path):
    saes = write_sae(tmp_path / "saes" / "one")
    write_descriptions(saes / "descriptions.jsonl", [{"feature": 3, "description": "kings\x1b[2J\nand queens"}])
    place = ("--layer", "1", "--model", model_directory, "--saes", saes, "--text", neutral_file, "--device", "cpu")
    status, out, err = call("features", "show", "3", *place)
    assert status == 0, err
    assert "description: kings\ufffd[2J and queens\n" in out
    assert "\x1b" not in out


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
