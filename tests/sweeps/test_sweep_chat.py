"""Measuring a concept whose prompts are messages to a chat model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from steering.activations import capture_pairs
from steering.concept_files import load_concept
from steering.errors import DataError
from steering.journal import Journal, load_rows
from steering.metrics.one_word import first_word
from steering.models.tokens import TokenizedText
from steering.neutral import load_neutral
from steering.profiles import MethodPlan, Profile
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.sweep import Sweep
from steering.verdicts.comparability import circumstances
from tests.chat_templates import chat_model, in_chat, rendered
from tests.references import reference_greedy, reference_loss
from tests.small_models import END, small_model

PLANS = (MethodPlan("mean_difference", 2.0),)
PROFILE = Profile(
    "test", "", "m", "c", "n", PLANS, rollouts=4, new_tokens=5, neutral_prompt_tokens=4, top_p=1e-6, layers=(1,)
)
CELL = Cell("mean_difference", 1, 2.0)


@pytest.fixture
def setting(concept_directory, neutral_file):
    return Setting(PROFILE, in_chat(load_concept(str(concept_directory))), load_neutral(str(neutral_file), 4))


def ids_of(model, text):
    return model.tokenizer(END + text)["input_ids"]


def test_pairs_prompts_and_losses_are_read_in_the_template(setting, tmp_path):
    model = chat_model()
    sweep = Sweep(setting, model, Journal(tmp_path), [CELL], run="test")
    sweep.measure(CELL)
    rows = {row.metric: row for row in load_rows(tmp_path) if row.method == "mean_difference"}
    planned = sweep.intervention(CELL)

    texts = []
    for pair in setting.concept.test:
        opening = ids_of(model, rendered(pair.prompt))
        whole = ids_of(model, rendered(pair.prompt) + pair.positive)
        assert whole[: len(opening)] == opening
        texts.append(TokenizedText(tuple(whole), len(opening)))
    expected = [reference_loss(model, text, planned) for text in texts]
    np.testing.assert_allclose(rows["loss_positive"].items, expected, rtol=1e-4)

    prompts = setting.concept.rollout_prompts
    for number, text in enumerate(rows["rollout_probability"].texts):
        prompt = ids_of(model, rendered(prompts[number % len(prompts)]))
        whole = reference_greedy(model, prompt, planned, PROFILE.new_tokens)
        assert model.tokenizer.decode(whole).startswith(text), "a completion ends early at its keyword"

    prompts = [ids_of(model, rendered(prompt)) for prompt in setting.concept.one_word_prompts]
    completions = [model.tokenizer.decode(reference_greedy(model, prompt, planned, 6)) for prompt in prompts]
    assert rows["one_word_changed"].texts == tuple(map(first_word, completions))

    wholes = [ids_of(model, rendered(pair.prompt) + pair.positive) for pair in setting.concept.generation]
    for row, ids in zip(sweep.activations.positive[:, 0], wholes, strict=True):
        [alone] = model.capture([ids], [1])
        np.testing.assert_allclose(row, alone.residuals[1][0, -1], rtol=1e-4, atol=1e-5)


def test_results_say_which_template_was_used_and_others_are_not_compared_with_them(setting, tmp_path):
    measurements = []
    for number, model in enumerate((chat_model(), chat_model())):
        if number:
            model.tokenizer.chat_template = model.tokenizer.chat_template.replace("assistant", "model")
        sweep = Sweep(setting, model, Journal(tmp_path / str(number)), [CELL], run="test")
        _ = sweep.unsteered
        [row, *_] = load_rows(tmp_path / str(number))
        measurements.append(circumstances(row))
    here, there = measurements
    assert {key for key in here if here[key] != there[key]} == {"chat_template"}


def test_plain_concept_names_no_template_and_reads_none(setting, concept_directory, tmp_path):
    plain = Setting(PROFILE, load_concept(str(concept_directory)), setting.neutral)
    rows = []
    for number, model in enumerate((chat_model(), small_model("llama"))):
        Sweep(plain, model, Journal(tmp_path / str(number)), [CELL], run="test").measure(CELL)
        rows.append([(row.metric, row.items, row.texts) for row in load_rows(tmp_path / str(number))])
        assert "chat_template" not in json.dumps(load_rows(tmp_path / str(number))[0].measurement)
    assert rows[0] == rows[1]


def test_model_without_a_template_is_refused_before_anything_is_measured(setting, tmp_path):
    with pytest.raises(DataError, match="no chat template"):
        Sweep(setting, small_model("llama"), Journal(tmp_path), [CELL], run="test")
    with pytest.raises(DataError, match="no chat template"):
        capture_pairs(small_model("llama"), setting.concept.generation, [0], "royalty")
    assert load_rows(tmp_path) == []
