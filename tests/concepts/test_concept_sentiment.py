"""The concept "sentiment" keeps its rules: open prompts, continuations that say near their end how somebody feels."""

from __future__ import annotations

from collections import Counter
from functools import partial
from statistics import fmean

import pytest

from steering.concept_files import load_concept
from steering.keywords import keyword_pattern
from tests.concept_pairs import faults_in, records
from tests.gendered_words import held, runs, words
from tests.sentiment_words import NEGATIVE, POSITIVE

CONCEPT = load_concept("sentiment")
OTHER = {"positive": "negative", "negative": "positive"}
OWN_WORDS = {"positive": POSITIVE, "negative": NEGATIVE}
KEYWORDS = {"positive": CONCEPT.keywords.positive, "negative": CONCEPT.keywords.negative}


GENERATION, TEST = records("sentiment", "generation"), records("sentiment", "test")
PAIRS = GENERATION + TEST
faults = partial(faults_in, PAIRS)


def texts(pair):
    return [pair[key] for key in ("prompt", "positive", "negative")]


def feeling(pair, side):
    """Words of the side's own feeling among the last eight of its continuation."""
    return [word for word in words(pair[side])[-8:] if word in OWN_WORDS[side]]


def outside(low, high, text):
    count = len(text.split())
    return None if low <= count <= high else count


def test_no_word_stands_on_both_sides():
    assert not POSITIVE & NEGATIVE


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_keywords_are_words_of_their_side(side):
    assert set(KEYWORDS[side]) <= OWN_WORDS[side]
    assert len(set(KEYWORDS[side])) == len(KEYWORDS[side]) == 14


def test_there_are_the_pairs_that_are_promised():
    assert (len(CONCEPT.generation), len(CONCEPT.test)) == (240, 50)
    assert [pair["id"] for pair in PAIRS] == [f"sentiment-{number:03}" for number in range(1, 291)]


def test_prompts_hold_no_word_of_feeling():
    assert not faults(lambda pair: held(pair["prompt"], POSITIVE | NEGATIVE))
    pattern = keyword_pattern(KEYWORDS["positive"] + KEYWORDS["negative"])
    assert not faults(lambda pair: pattern.search(pair["prompt"]))


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_continuations_hold_a_word_of_their_feeling_within_the_last_eight(side):
    assert not faults(lambda pair: None if feeling(pair, side) else pair[side])


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_continuations_hold_no_word_of_the_other_feeling(side):
    assert not faults(lambda pair: held(pair[side], OWN_WORDS[OTHER[side]]))
    assert not faults(lambda pair: keyword_pattern(KEYWORDS[OTHER[side]]).search(pair[side]))


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_feelings_are_said_in_many_words(side):
    """Vectors from continuations that all end alike would hold that one word, not the feeling."""
    last = Counter(feeling(pair, side)[-1] for pair in PAIRS)
    assert len(last) >= 80
    assert max(last.values()) <= len(PAIRS) / 10


def test_continuations_of_a_pair_start_with_the_same_word():
    def first_words(pair):
        first = [words(pair[side])[0] for side in OTHER]
        return first if first[0] != first[1] else None

    assert not faults(first_words)


def test_prompts_and_continuations_are_one_sentence_of_their_length():
    assert not faults(lambda pair: [text for text in texts(pair) if text.count(".") != 1 or text[-1] != "."])
    assert not faults(lambda pair: outside(12, 25, pair["prompt"]))
    assert not faults(lambda pair: outside(15, 35, pair["positive"]) or outside(15, 35, pair["negative"]))


def test_neither_side_is_longer():
    differences = {pair["id"]: len(pair["positive"].split()) - len(pair["negative"].split()) for pair in PAIRS}
    assert {name: by for name, by in differences.items() if abs(by) > 4} == {}
    assert abs(fmean(differences.values())) < 0.25


def test_texts_occur_once():
    counts = Counter(tuple(words(text)) for pair in PAIRS for text in texts(pair))
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_run_of_six_words_stands_in_two_pairs():
    counts = Counter(run for pair in PAIRS for run in {run for text in texts(pair) for run in runs(text, 6)})
    assert [run for run, count in counts.items() if count > 1] == []


def test_subjects_stand_in_their_prompts_and_occur_once():
    assert not faults(lambda pair: None if pair["subject"] in pair["prompt"] else pair["subject"])
    assert len({pair["subject"].lower() for pair in PAIRS}) == len(PAIRS)


def test_rollout_and_development_prompts_hold_no_word_of_feeling_and_stop_before_the_word():
    prompts = CONCEPT.rollout_prompts + CONCEPT.development_prompts
    assert [prompt for prompt in prompts if held(prompt, POSITIVE | NEGATIVE) or not prompt[-1].isalpha()] == []
    assert (len(CONCEPT.rollout_prompts), len(set(CONCEPT.development_prompts))) == (1, 6)


def test_development_prompts_share_no_run_of_three_words_with_a_prompt_of_the_test():
    tested = {run for prompt in CONCEPT.rollout_prompts + CONCEPT.one_word_prompts for run in runs(prompt, 3)}
    assert [prompt for prompt in CONCEPT.development_prompts if tested & set(runs(prompt, 3))] == []


def test_prompts_to_complete_are_no_prompts_of_pairs():
    asked = {*CONCEPT.rollout_prompts, *CONCEPT.one_word_prompts, *CONCEPT.development_prompts}
    assert not {run for prompt in asked for run in runs(prompt, 6)} & {
        run for pair in PAIRS for text in texts(pair) for run in runs(text, 6)
    }


def test_one_word_prompts_hold_no_word_of_feeling_and_stop_before_the_word():
    prompts = CONCEPT.one_word_prompts
    assert [prompt for prompt in prompts if held(prompt, POSITIVE | NEGATIVE) or not prompt[-1].isalpha()] == []
    assert len(set(prompts)) == len(prompts) == 20


def test_one_word_prompts_of_both_leanings_ask_for_the_same_word():
    """Only what is told before differs: each of the first ten has its counterpart with the same last sentence."""
    stories, questions = zip(*(prompt.split(". ") for prompt in CONCEPT.one_word_prompts), strict=True)
    assert questions[:10] == questions[10:]
    assert len(set(stories)) == 20


def test_feature_keywords_are_of_both_sides_equally():
    features = CONCEPT.feature_keywords
    assert len(set(features)) == len(features) == 52
    assert not set(features[:26]) & NEGATIVE
    assert not set(features[26:]) & POSITIVE
