"""Rollouts: what counts as a success, and completions of planted vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.concepts import keyword_pattern
from steering.metrics.rollouts import RolloutProbability
from steering.model import LanguageModel
from steering.progress import Silent
from steering.sampling import NucleusSampler, uniform_streams
from steering.tokens import tokenize_prompt
from tests.references import towards

PAPER = ("dad", "father", "brother", "man", "men", "dude", "buddy", "boy", "guy", "gun", "prince", "king", "husband")


def rollouts(
    model: LanguageModel,
    *,
    prompts: tuple[str, ...] = ("the", "A story of"),
    keywords: tuple[str, ...] = ("king", "man"),
    count: int = 24,
    new_tokens: int = 10,
    seed: int = 0,
) -> RolloutProbability:
    return RolloutProbability(
        model=model,
        prompts=tuple(tokenize_prompt(model.tokenizer, prompt) for prompt in prompts),
        pattern=keyword_pattern(keywords),
        rollouts=count,
        new_tokens=new_tokens,
        sampler=NucleusSampler(uniform_streams(seed, count, new_tokens), 0.9, 1.0),
    )


def unsteered_texts(metric: RolloutProbability) -> tuple[str, ...]:
    return metric.observe([None], Silent())[0].texts


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
    prompted = rollouts(llama, prompts=("the king saw a man and the",))
    [observed] = prompted.observe([None], Silent())
    pattern = keyword_pattern(("king", "man"))
    assert observed.items.tolist() == [float(bool(pattern.search(text))) for text in observed.texts]
    assert observed.items.min() == 0, "a keyword in the prompt would make every rollout a success"


def test_rollouts_of_a_planted_vector_succeed(llama):
    single = rollouts(llama, new_tokens=1)
    steered, unsteered = single.observe([towards(llama, " king", 60.0), None], Silent())
    [score] = single.score(steered, unsteered)
    assert score.value > 0.6
    assert unsteered.items.mean() < 0.1
    assert score.p_value < 0.01
    assert score.low < score.value <= score.high


def test_rollout_i_does_not_depend_on_how_many_are_asked_for(llama):
    assert unsteered_texts(rollouts(llama, count=6)) == unsteered_texts(rollouts(llama))[:6]


def test_rollouts_repeat_with_their_seed_and_differ_with_another(llama):
    first, again = (unsteered_texts(rollouts(llama)) for _ in range(2))
    assert first == again
    assert first != unsteered_texts(rollouts(llama, seed=1))


def test_rollouts_alternate_between_the_prompts(llama):
    [first, second, *_] = unsteered_texts(rollouts(llama))
    only_second = unsteered_texts(rollouts(llama, prompts=("A story of",)))
    assert second == only_second[1]
    assert first != only_second[0]


def test_baseline_and_steered_rollouts_are_checked_by_one_rule(llama):
    metric = rollouts(llama)
    zero, unsteered = metric.observe([towards(llama, " king", 0.0), None], Silent())
    assert zero.texts == unsteered.texts
    [score] = metric.score(zero, unsteered)
    assert score.p_value == 1.0
