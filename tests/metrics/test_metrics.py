"""The metrics against planted cases and independent computations."""

from __future__ import annotations

import numpy as np
import pytest

from steering.errors import NonFiniteError, SteeringError
from steering.keywords import keyword_pattern
from steering.metrics import Observation, Score, metrics
from steering.metrics.one_word import OneWordCompletion, first_word
from steering.models.completions import Completed
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText, tokenize_continuation, tokenize_prompt
from steering.profiles import MethodPlan, Profile
from steering.progress import Silent
from tests.references import reference_loss, steer, towards

PROFILE = Profile(
    "test", "", "x", "y", "z", (MethodPlan("mean_difference", 1.0),),
    rollouts=6, new_tokens=5, neutral_prompt_tokens=4, neutral_continuation_tokens=8,
)  # fmt: skip


def one_word(model: LanguageModel, prompts: tuple[str, ...], *keywords: str) -> OneWordCompletion:
    ids = tuple(tokenize_prompt(model.tokenizer, prompt) for prompt in prompts)
    return OneWordCompletion(model, ids, keyword_pattern(keywords))


def test_story_losses_are_ordered_as_the_texts_and_score_the_difference(llama, setting):
    metric = metrics["loss_positive"](setting, llama)
    steered, unsteered = metric.observe([towards(llama, " king", 3.0, layer=0), None], Silent())
    loss, change = metric.score(steered, unsteered)
    assert (loss.metric, change.metric) == ("loss_positive", "loss_change_positive")
    np.testing.assert_array_equal(change.items, steered.items - unsteered.items)
    assert loss.value == pytest.approx(steered.items.mean())
    texts = [tokenize_continuation(llama.tokenizer, pair.prompt, pair.positive) for pair in setting.concept.test]
    assert unsteered.items == pytest.approx([reference_loss(llama, text, None) for text in texts], rel=1e-5)


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_story_losses_are_of_the_side_that_they_name(llama, setting, kind):
    metric = metrics[f"loss_{kind}"](setting, llama)
    steered = towards(llama, " king", 3.0, layer=0)
    sides = [{"positive": pair.positive, "negative": pair.negative}[kind] for pair in setting.concept.test]
    pairs = zip(setting.concept.test, sides, strict=True)
    texts = [tokenize_continuation(llama.tokenizer, pair.prompt, side) for pair, side in pairs]
    [observed] = metric.observe([steered], Silent())
    assert observed.items == pytest.approx([reference_loss(llama, text, steered) for text in texts], rel=1e-4)


def test_neutral_losses_are_steered_on_the_first_tokens_of_each_document(llama, setting):
    metric = metrics["loss_neutral"](setting, llama)
    steered = towards(llama, " king", 3.0, layer=0)
    ids = [tuple(llama.tokenizer(text)["input_ids"][:12]) for text in setting.neutral.documents]
    expected = [reference_loss(llama, TokenizedText(row, 4), steered) for row in ids]
    [observed] = metric.observe([steered], Silent())
    assert observed.items == pytest.approx(expected, rel=1e-4)


def test_zero_multiplier_changes_no_loss_at_all(any_model, setting):
    metric = metrics["loss_neutral"](setting, any_model)
    zero, unsteered = metric.observe([towards(any_model, " king", 0.0, layer=0), None], Silent())
    _, change = metric.score(zero, unsteered)
    assert change.items.tolist() == [0.0] * 4
    assert (change.low, change.high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (" sister. She", "sister"),
        ("\n\n  king's crown", "king's"),
        ("42, girl", "42"),
        ("...", ""),
        ("", ""),
        ("co-pilot", "co-pilot"),
        (" don’t go", "don’t"),
    ],
)
def test_first_word(text, word):
    assert first_word(text) == word


@pytest.mark.parametrize(
    ("text", "keyword", "success"),
    [
        (" boy. She", "boy", 1.0),
        (" “Boys", "boy", 1.0),
        (" boy-like", "boy", 1.0),
        (" fire engine.", "fire engine", 1.0),
        (" 5G network", "5G", 1.0),
        (" 👍 Fine", "👍", 1.0),
        (" “👍”", "👍", 0.0),
        (" 'tis", "'tis", 1.0),
        (" $100.", "$100", 1.0),
        (" a boy", "boy", 0.0),
        (" boyish", "boy", 0.0),
        (" tomboy", "boy", 0.0),
        ("...", "boy", 0.0),
        ("", "boy", 0.0),
        ("boy.", "boy", 0.0),
    ],
)
def test_one_word_success_is_a_keyword_at_the_beginning(llama, text, keyword, success):
    observed = one_word(llama, ("a",), keyword)._observation([Completed(f"a tom{text}", 5)])
    assert (observed.items.tolist(), observed.texts) == ([success], (first_word(text),))


def test_one_word_completions_count_changes_against_the_unsteered_words(llama):
    metric = one_word(llama, ("a", "b", "c"), "boy")
    steered = Observation(np.array([1.0, 0.0, 0.0]), ("boy", "girl", "tree"))
    unsteered = Observation(np.array([0.0, 0.0, 0.0]), ("girl", "girl", "stone"))
    changed, success = metric.score(steered, unsteered)
    assert changed.items.tolist() == [1.0, 0.0, 1.0]
    assert success.items.tolist() == [1.0, 0.0, 0.0]
    assert changed.texts == ("boy", "girl", "tree")


def test_one_word_completion_follows_a_planted_vector(llama):
    metric = one_word(llama, ("the", "A story of"), "king")
    choices = [None, towards(llama, " king", 60.0), towards(llama, " queen", 60.0)]
    unsteered, steered, other = metric.observe(choices, Silent())
    assert steered.texts == ("king", "king")
    assert steered.items.tolist() == [1.0, 1.0]
    assert other.texts == ("queen", "queen")
    assert other.items.tolist() == [0.0, 0.0]
    assert unsteered.texts not in (steered.texts, other.texts)


def test_score_of_nothing_and_score_of_nan_are_errors():
    with pytest.raises(SteeringError, match="no items"):
        Score("x", np.array([]), 0.0, 0.0)
    with pytest.raises(NonFiniteError, match="NaN"):
        Score("x", np.array([1.0, np.nan]), 0.0, 0.0)


def test_every_metric_gives_the_scores_it_names(llama, setting):
    for name in metrics:
        metric = metrics[name](setting, llama)
        steered, unsteered = metric.observe([steer(llama, 0, 1.0), None], Silent())
        scores = metric.score(steered, unsteered)
        assert tuple(score.metric for score in scores) == metric.names
        assert not metric.skip_reason
        assert all(score.low <= score.value <= score.high for score in scores)


def test_what_a_metric_sees_of_a_configuration_does_not_depend_on_the_others(any_model, setting):
    choices = [steer(any_model, 1, 2.0), None, steer(any_model, 0, -3.0, seed=1), steer(any_model, 0, 9.0, seed=2)]
    for name in metrics:
        together = metrics[name](setting, any_model).observe(choices, Silent())
        for choice, found in zip(choices, together, strict=True):
            [alone] = metrics[name](setting, any_model).observe([choice], Silent())
            assert (found.items.tolist(), found.texts) == (alone.items.tolist(), alone.texts)
