"""The metrics against planted cases and independent computations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.concepts import keyword_pattern, load_concept
from steering.errors import NonFiniteError, SteeringError
from steering.metrics import Observation, Score, metrics
from steering.metrics.losses import NeutralLoss, StoryLoss
from steering.metrics.one_word import OneWordCompletion, first_word
from steering.metrics.rollouts import RolloutProbability
from steering.model import LanguageModel
from steering.neutral import load_neutral
from steering.profiles import MethodPlan, Profile, Setting
from steering.progress import Silent
from steering.vectors import Intervention, SteeringVector

PAPER = ("dad", "father", "brother", "man", "men", "dude", "buddy", "boy", "guy", "gun", "prince", "king", "husband")
ROLLOUTS = RolloutProbability(("the", "A story of"), ("king", "man"), 24, 10, 1.0, 0.9, 0)


def towards(model: LanguageModel, word: str, layer: int = 1) -> SteeringVector:
    """A vector that raises one token's logit: the row of the output embedding."""
    [token] = model.tokenizer.encode(word)
    row = model.module.get_output_embeddings().weight[token].detach().clone()
    return SteeringVector(row / row.norm(), layer, "planted", "none", model.name)


@pytest.mark.parametrize(
    "text",
    ["a man.", "The KING slept", "two boys ran", "the king's horse", "the boy’s hat", "kings' crowns", "men", "(guy)"],
)
def test_keyword_is_found_as_a_whole_word(text):
    assert keyword_pattern(PAPER).search(text)


@pytest.mark.parametrize(
    "text", ["a moment", "woman", "kingdom", "begun", "manual", "grandfather", "boyish", "mankind", "Batman", "a king_"]
)
def test_keyword_inside_another_word_does_not_count(text):
    assert not keyword_pattern(PAPER).search(text)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4), st.text(max_size=30))
def test_keyword_pattern_treats_any_keyword_literally(words, text):
    assert keyword_pattern(words).search(f"{text} {words[0]} {text}")


@given(
    st.sampled_from(PAPER), st.sampled_from(["", "s", "'s", "’s", "s'"]), st.sampled_from([" ", ".", ", ", "\n", "!"])
)
def test_keyword_inflections_count_with_any_word_boundary(word, ending, after):
    assert keyword_pattern(PAPER).search(f"The {word.upper()}{ending}{after}rest")


def test_success_looks_at_the_completion_only(llama):
    prompted = dataclasses.replace(ROLLOUTS, prompts=("the king saw a man and the",))
    observed = prompted.observe(llama, None, Silent())
    pattern = keyword_pattern(prompted.keywords)
    assert observed.items.tolist() == [float(bool(pattern.search(text))) for text in observed.texts]
    assert observed.items.min() == 0, "a keyword in the prompt would make every rollout a success"


def test_rollouts_of_a_planted_vector_succeed(llama):
    single = dataclasses.replace(ROLLOUTS, new_tokens=1)
    steered = single.observe(llama, Intervention(towards(llama, " king"), 60.0), Silent())
    unsteered = single.observe(llama, None, Silent())
    [score] = single.score(steered, unsteered)
    assert score.value > 0.6
    assert unsteered.items.mean() < 0.1
    assert score.p_value < 0.01
    assert score.low < score.value <= score.high


def test_rollout_i_does_not_depend_on_how_many_are_asked_for(llama):
    few = dataclasses.replace(ROLLOUTS, rollouts=6).observe(llama, None, Silent())
    assert few.texts == ROLLOUTS.observe(llama, None, Silent()).texts[:6]


def test_rollouts_repeat_with_their_seed_and_differ_with_another(llama):
    first, again = (ROLLOUTS.observe(llama, None, Silent()).texts for _ in range(2))
    assert first == again
    assert first != dataclasses.replace(ROLLOUTS, seed=1).observe(llama, None, Silent()).texts


def test_rollouts_alternate_between_the_prompts(llama):
    [first, second, *_] = ROLLOUTS.observe(llama, None, Silent()).texts
    only_second = dataclasses.replace(ROLLOUTS, prompts=("A story of",)).observe(llama, None, Silent()).texts
    assert second == only_second[1]
    assert first != only_second[0]


def test_baseline_and_steered_rollouts_are_checked_by_one_rule(llama):
    zero = ROLLOUTS.observe(llama, Intervention(towards(llama, " king"), 0.0), Silent())
    unsteered = ROLLOUTS.observe(llama, None, Silent())
    assert zero.texts == unsteered.texts
    [score] = ROLLOUTS.score(zero, unsteered)
    assert score.p_value == 1.0


def test_story_losses_are_ordered_as_the_texts_and_score_the_difference(llama):
    metric = StoryLoss("positive", (("The old", "man saw the king."), ("A", "boy.")))
    steered = metric.observe(llama, Intervention(towards(llama, " king", 0), 3.0), Silent())
    unsteered = metric.observe(llama, None, Silent())
    loss, change = metric.score(steered, unsteered)
    assert (loss.metric, change.metric) == ("loss_positive", "loss_change_positive")
    np.testing.assert_array_equal(change.items, steered.items - unsteered.items)
    assert loss.value == pytest.approx(steered.items.mean())
    alone = StoryLoss("positive", (("A", "boy."),)).observe(llama, None, Silent())
    assert unsteered.items[1] == pytest.approx(alone.items[0], rel=1e-5)


def test_zero_multiplier_changes_no_loss_at_all(any_model):
    metric = NeutralLoss(("Rain fell on the hills all day.", "Mix flour and water."), 4, 8)
    zero = metric.observe(any_model, Intervention(towards(any_model, " king", 0), 0.0), Silent())
    _, change = metric.score(zero, metric.observe(any_model, None, Silent()))
    assert change.items.tolist() == [0.0, 0.0]
    assert (change.low, change.high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (" sister. She", "sister"),
        ("\n\n  king's crown", "king's"),
        ("42, girl", "girl"),
        ("...", ""),
        ("", ""),
        ("co-pilot", "co-pilot"),
    ],
)
def test_first_word(text, word):
    assert first_word(text) == word


def test_one_word_completions_count_changes_against_the_unsteered_words():
    metric = OneWordCompletion(("a", "b", "c"), ("boy",))
    steered = Observation(np.array([1.0, 0.0, 0.0]), ("boy", "girl", "tree"))
    unsteered = Observation(np.array([0.0, 0.0, 0.0]), ("girl", "girl", "stone"))
    changed, success = metric.score(steered, unsteered)
    assert changed.items.tolist() == [1.0, 0.0, 1.0]
    assert success.items.tolist() == [1.0, 0.0, 0.0]
    assert changed.texts == ("boy", "girl", "tree")


def test_one_word_completion_follows_a_planted_vector(llama):
    metric = OneWordCompletion(("the", "A story of"), ("king",))
    steered = metric.observe(llama, Intervention(towards(llama, " king"), 60.0), Silent())
    assert steered.texts == ("king", "king")
    assert steered.items.tolist() == [1.0, 1.0]


def test_score_of_nothing_and_score_of_nan_are_errors():
    with pytest.raises(SteeringError, match="no items"):
        Score("x", np.array([]), 0.0, 0.0)
    with pytest.raises(NonFiniteError, match="NaN"):
        Score("x", np.array([1.0, np.nan]), 0.0, 0.0)


def test_every_metric_gives_the_scores_it_names(llama, concept_directory, neutral_file):
    profile = Profile("test", "", "x", "y", "z", (MethodPlan("mean_difference", 1.0),), rollouts=4, new_tokens=4)
    setting = Setting(profile, load_concept(str(concept_directory)), load_neutral(str(neutral_file), 4))
    vector = SteeringVector(torch.ones(llama.d_model), 0, "x", "y", "z")
    for name in metrics:
        metric = metrics[name](setting)
        unsteered = metric.observe(llama, None, Silent())
        scores = metric.score(metric.observe(llama, Intervention(vector, 1.0), Silent()), unsteered)
        assert tuple(score.metric for score in scores) == metric.names
        assert not metric.skip_reason
        assert all(score.low <= score.value <= score.high for score in scores)
