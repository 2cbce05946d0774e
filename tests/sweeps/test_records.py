"""Rows hold the score and the circumstances that it was measured under."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.concept_files import load_concept
from steering.journal import load_rows
from steering.metrics import Score
from steering.models.language_model import LanguageModel
from steering.neutral import load_neutral
from steering.profiles import MethodPlan, Profile
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.records import blank_row, of_cell, with_score
from tests.small_models import small_module, small_tokenizer
from tests.small_rows import unsteered_row

PROFILE = Profile("test", "", "m", "c", "n", (MethodPlan("mean_difference", 2.0),), rollouts=6, seed=4)
finite = st.floats(-1e9, 1e9)


@pytest.fixture
def setting(concept_directory: Path, neutral_file: Path) -> Setting:
    concept = load_concept(str(concept_directory), "negative")
    return Setting(PROFILE, concept, load_neutral(str(neutral_file), 4))


def test_a_blank_row_says_what_is_run_on_what(llama, setting):
    row = blank_row(setting, llama, "run-7")
    assert (row.run, row.model, row.model_hash) == ("run-7", "small-llama", llama.hash)
    assert row.model_settings_hash == llama.settings_hash
    assert row.versions.keys() == {"steering-bench", "torch", "transformers", "numpy", "python"}
    assert (row.versions["torch"], row.versions["numpy"]) == (version("torch"), version("numpy"))
    assert (row.dtype, row.device) == ("float32", "cpu")
    assert (row.concept, row.toward, row.neutral) == ("royalty", "negative", "neutral.jsonl")
    assert (row.data_hash, row.seed) == (setting.data_hash, 4)
    assert row.measurement["rollouts"] == 6


def test_a_blank_row_is_of_the_unsteered_run_until_a_cell_is_filled_in(llama, setting):
    row = blank_row(setting, llama, "run-7")
    assert (row.method, row.layer, row.multiplier) == ("unsteered", None, 0.0)
    assert (row.parameters, row.vector_hash, row.vector_norm) == ({}, "", None)
    of_mean = of_cell(row, setting, Cell("mean_difference", 1, 3.0))
    assert (of_mean.method, of_mean.layer, of_mean.multiplier) == ("mean_difference", 1, 3.0)
    assert dataclasses.replace(of_mean, method="unsteered", layer=None, multiplier=0.0) == row, "all else is the run's"


def test_dtype_is_that_of_the_weights(setting):
    model = LanguageModel(small_module("llama").bfloat16(), small_tokenizer(), "half")
    assert blank_row(setting, model, "r").dtype == "bfloat16"


@given(items=st.lists(finite, min_size=1, max_size=9), ends=st.tuples(finite, finite))
def test_row_holds_the_score_in_full(items, ends):
    score = Score("loss_neutral", np.array(items), *ends, texts=("a", "b"))
    blank = unsteered_row()
    row = with_score(blank, score)
    assert (row.metric, row.n, row.items, row.texts) == ("loss_neutral", len(items), tuple(items), ("a", "b"))
    assert row.value == pytest.approx(sum(items) / len(items), rel=1e-9, abs=1e-6)
    assert (row.low, row.high, row.p_value, row.p_control) == (*ends, None, None)
    assert (row.status, row.reason, row.features) == ("ok", "", ())
    of_score = ("metric", "value", "n", "low", "high", "p_value", "p_control", "items", "texts")
    kept = {key: getattr(blank, key) for key in of_score}
    assert dataclasses.replace(row, **kept) == blank, "all else stays"


def test_row_holds_both_tests_and_is_read_back_from_its_line(tmp_path):
    score = Score("rollout_probability", np.array([1.0, 0.0]), 0.1, 0.9, p_value=0.25, p_control=0.75)
    row = with_score(unsteered_row(), score)
    assert (row.p_value, row.p_control) == (0.25, 0.75)
    (tmp_path / "results.jsonl").write_text(row.to_json() + "\n", encoding="utf-8")
    assert load_rows(tmp_path) == [row]
