"""Rows hold the score and the circumstances that it was measured under."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.concepts import load_concept
from steering.journal import load_rows
from steering.metrics import Score
from steering.models.language_model import LanguageModel
from steering.neutral import load_neutral
from steering.profiles import MethodPlan, Profile, Setting
from steering.results import Row
from steering.sweeps.records import measured_row, run_fields
from tests.small_models import small_module, small_tokenizer
from tests.small_rows import unsteered_row

PROFILE = Profile("test", "", "m", "c", "n", (MethodPlan("mean_difference", 2.0),), rollouts=6, seed=4)
CIRCUMSTANCES = {
    field.name: getattr(unsteered_row(), field.name)
    for field in dataclasses.fields(Row)
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and field.name != "metric"
}
finite = st.floats(-1e9, 1e9)


@pytest.fixture
def setting(concept_directory: Path, neutral_file: Path) -> Setting:
    concept = load_concept(str(concept_directory), "negative")
    return Setting(PROFILE, concept, load_neutral(str(neutral_file), 4))


def test_run_fields_say_what_was_run_on_what(llama, setting):
    fields = run_fields(setting, llama, "run-7")
    assert (fields["run"], fields["model"], fields["model_hash"]) == ("run-7", "small-llama", llama.hash)
    assert fields["model_settings_hash"] == llama.settings_hash
    assert fields["versions"].keys() == {"steering-bench", "torch", "transformers", "numpy", "python"}
    assert (fields["versions"]["torch"], fields["versions"]["numpy"]) == (version("torch"), version("numpy"))
    assert (fields["dtype"], fields["device"]) == ("float32", "cpu")
    assert (fields["concept"], fields["toward"], fields["neutral"]) == ("royalty", "negative", "neutral.jsonl")
    assert (fields["data_hash"], fields["seed"]) == (setting.data_hash, 4)
    assert fields["measurement"]["rollouts"] == 6


def test_run_fields_are_those_of_the_unsteered_run_until_a_cell_adds_its_own(llama, setting):
    fields = run_fields(setting, llama, "run-7")
    steering = ("method", "layer", "multiplier", "parameters", "vector_hash", "vector_norm")
    assert [fields[key] for key in steering] == ["unsteered", None, 0.0, {}, "", None]
    assert set(fields) == set(CIRCUMSTANCES) | {"model_settings_hash", "versions"}, (
        "all that a row needs but the metric"
    )


def test_dtype_is_that_of_the_weights(setting):
    model = LanguageModel(small_module("llama").bfloat16(), small_tokenizer(), "half")
    assert run_fields(setting, model, "r")["dtype"] == "bfloat16"


@given(items=st.lists(finite, min_size=1, max_size=9), ends=st.tuples(finite, finite))
def test_row_holds_the_score_in_full(items, ends):
    score = Score("loss_neutral", np.array(items), *ends, texts=("a", "b"))
    row = measured_row(CIRCUMSTANCES, score)
    assert (row.metric, row.n, row.items, row.texts) == ("loss_neutral", len(items), tuple(items), ("a", "b"))
    assert row.value == pytest.approx(sum(items) / len(items), rel=1e-9, abs=1e-6)
    assert (row.low, row.high, row.p_value, row.p_control) == (*ends, None, None)
    assert (row.status, row.reason, row.features) == ("ok", "", ())
    assert {key: getattr(row, key) for key in CIRCUMSTANCES} == CIRCUMSTANCES


def test_row_holds_both_tests_and_is_read_back_from_its_line(tmp_path):
    score = Score("rollout_probability", np.array([1.0, 0.0]), 0.1, 0.9, p_value=0.25, p_control=0.75)
    row = measured_row(CIRCUMSTANCES, score)
    assert (row.p_value, row.p_control) == (0.25, 0.75)
    (tmp_path / "results.jsonl").write_text(row.to_json() + "\n", encoding="utf-8")
    assert load_rows(tmp_path) == [row]
