"""The embedded model itself: marked `real`, and run by `pytest -m real`."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from steering.activations import FeatureReader, capture_pairs
from steering.concept_files import load_concept
from steering.concepts import Side
from steering.keywords import keyword_pattern
from steering.methods import construct
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.sampling import Greedy, NucleusSampler, uniform_streams
from steering.models.tokens import tokenize_document, tokenize_message, tokenize_side
from steering.neutral import load_neutral
from steering.positions import Positions
from steering.sae.features import logit_lens
from steering.sae.library import open_library
from steering.sae.quality import reconstruct
from steering.vectors import Intervention
from tests.documents import ROOT, code_blocks

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.load("embedded")


@pytest.fixture(scope="module")
def steered(model) -> Intervention:
    concept = load_concept("gender")
    activations = capture_pairs(model, concept.generation[:60], [20], concept.name)
    return Intervention(construct("mean_difference", activations, 20), 12.0)


def test_embedded_model_is_the_one_that_is_described(model):
    assert (model.name, model.layer_count, model.d_model) == ("SmolLM2-135M-Instruct", 30, 576)


def test_embedded_model_knows_english(model):
    prompt = model.tokenizer("The capital of France is")["input_ids"]
    [completion] = model.generate([prompt], [None], Greedy(), 3)
    assert "Paris" in model.tokenizer.decode(completion)


@pytest.mark.parametrize("positions", get_args(Positions))
def test_zero_multiplier_reproduces_the_unsteered_run_to_the_last_bit(model, steered, positions):
    zero = Intervention(steered.vector, 0.0, positions)
    texts = [tokenize_document(model.tokenizer, text, 32, 64) for text in load_neutral("embedded", 8).documents]
    here, unsteered = ContinuationLosses(model, texts).measure([zero, None])
    assert (here == unsteered).all()
    prompt = model.tokenizer("My favorite doll is a little")["input_ids"]
    sampler = NucleusSampler(uniform_streams(0, 16, 20), 0.8, 1.0)
    assert model.generate([prompt] * 16, [zero] * 16, sampler, 20) == model.generate(
        [prompt] * 16, [None] * 16, sampler, 20
    )


def test_results_in_float32_do_not_depend_on_what_is_measured_beside_them(steered):
    model = LanguageModel.load("embedded", "float32")
    choices = [Intervention(replace(steered.vector, layer=layer), 12.0) for layer in (12, 20, 28)]
    choices += [Intervention(steered.vector, 3.0, "all")]
    texts = [tokenize_document(model.tokenizer, text, 32, 64) for text in load_neutral("embedded", 40).documents]
    together = ContinuationLosses(model, texts).measure(choices)
    for choice, losses in zip(choices, together, strict=True):
        for few in (1, 2, 3):
            assert ContinuationLosses(model, texts[:few]).measure([choice])[0].tolist() == losses[:few].tolist()
    prompt = model.tokenizer("My favorite doll is a little")["input_ids"]
    sampler = NucleusSampler(uniform_streams(0, 100, 20), 0.8, 1.0)
    rows = [choice for choice in choices for _ in range(100)]
    together = model.generate([prompt] * len(rows), rows, sampler, 20)
    for number, choice in enumerate(choices):
        alone = model.generate([prompt] * 100, [choice] * 100, sampler, 20)
        assert alone == together[100 * number : 100 * (number + 1)]


def test_steering_raises_the_loss_of_feminine_stories_more_than_that_of_neutral_text(model, steered):
    pairs = load_concept("gender").test[:16]
    stories = [tokenize_document(model.tokenizer, f"{pair.prompt} {pair.negative}", 20, 40) for pair in pairs]
    neutral = [tokenize_document(model.tokenizer, text, 20, 40) for text in load_neutral("embedded", 16).documents]
    changes = []
    for texts in (stories, neutral):
        here, unsteered = ContinuationLosses(model, texts).measure([steered, None])
        changes.append(float(np.mean(here - unsteered)))
    assert changes[0] > changes[1] + 0.05


def test_refusing_and_helping_answers_pull_the_model_s_answers_apart(model):
    """The built-in chat: what it says to a message, and how it bears answers of either side."""
    concept = load_concept("refusal")
    message = tokenize_message(model.tokenizer, concept.rollout_prompts[0])
    [answer] = model.generate([message], [None], Greedy(), 30)
    assert not keyword_pattern(concept.keywords.positive).search(model.tokenizer.decode(answer))
    activations = capture_pairs(model, concept.generation, [20], concept.name)
    steered = Intervention(construct("mean_difference", activations, 20), 1.0)
    changes = []
    for side in get_args(Side):
        texts = [tokenize_side(model.tokenizer, pair, side) for pair in concept.test]
        here, unsteered = ContinuationLosses(model, texts).measure([steered, None])
        changes.append(here - unsteered)
    apart = changes[1] - changes[0]
    assert apart.mean() > 3 * apart.std() / np.sqrt(len(apart))


def test_example_of_the_readme_steers(capsys):
    [code] = code_blocks(ROOT / "README.md", "python")
    exec(compile(code, "README.md", "exec"), {"__name__": "example"})
    unsteered, steered = capsys.readouterr().out.splitlines()
    assert unsteered != steered


@pytest.fixture(scope="module")
def sae(model):
    return open_library("embedded").load(20, model.device)


def test_embedded_sae_explains_most_of_the_variance_of_neutral_text(model, sae):
    rows = [model.tokenizer(text)["input_ids"][:96] for text in load_neutral("embedded", 16).documents]
    found = reconstruct(model, [sae], rows)[20]
    assert 1 - found.squared_error.sum() / found.variance.sum() > 0.75
    assert found.active.max() <= 48


def test_logit_lens_reads_the_gender_of_features(model, sae):
    feminine, masculine = logit_lens(model, sae.decoder[[4486, 1274]], 5)
    assert " herself" in feminine.promoted
    assert " himself" in masculine.promoted


def test_feature_delta_finds_the_gender_features_in_the_continuations(model, sae):
    concept = load_concept("gender")
    reader = FeatureReader([(sae, open_library("embedded").describe(sae))], concept.feature_keywords)
    activations = capture_pairs(model, concept.generation[:40], [20], concept.name, reader=reader)
    weights = {entry.feature: entry.weight for entry in construct("feature_delta", activations, 20).features[:3]}
    assert weights[4486] < 0 < weights[1274]
