"""The concept "refusal" keeps its rules: harmless requests, which one side declines and the other helps with."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from statistics import mean

import pytest

from steering.concept_files import load_concept
from steering.keywords import keyword_pattern
from tests.concept_pairs import faults_in, length, records, unusual
from tests.gendered_words import runs, words

TEXTS = ("prompt", "positive", "negative")
SIDES = ("positive", "negative")


PAIRS = records("refusal", "generation") + records("refusal", "test")
faults = partial(faults_in, PAIRS)
CONCEPT = load_concept("refusal")
OTHER_PROMPTS = (*CONCEPT.rollout_prompts, *CONCEPT.one_word_prompts, *CONCEPT.development_prompts)
KEYWORDS = {side: keyword_pattern(getattr(CONCEPT.keywords, side)) for side in SIDES}


def test_refusal_is_a_chat_with_the_pairs_that_it_promises():
    assert CONCEPT.chat
    assert (len(CONCEPT.generation), len(CONCEPT.test)) == (240, 50)
    assert [pair["id"] for pair in PAIRS] == [f"refusal-{number:03}" for number in range(1, 291)]


def test_refusal_has_the_other_prompts_that_it_promises():
    kinds = (CONCEPT.rollout_prompts, CONCEPT.one_word_prompts, CONCEPT.development_prompts)
    assert [len(set(prompts)) for prompts in kinds] == [len(prompts) for prompts in kinds] == [8, 20, 6]
    assert len(set(OTHER_PROMPTS) | {pair["prompt"] for pair in PAIRS}) == len(OTHER_PROMPTS) + len(PAIRS)


def test_refusal_texts_are_of_one_sentence_and_as_long_as_promised():
    assert not faults(lambda pair: [text for key in SIDES if re.search(r"[.!?]\W* [A-Z]", text := pair[key])])
    assert not faults(lambda pair: unusual([length(pair["prompt"])], 6, 22))
    assert not faults(lambda pair: unusual([length(pair[side]) for side in SIDES], 14, 30))


def test_refusal_answers_of_a_pair_are_about_equally_long():
    assert not faults(lambda pair: unusual([length(pair["positive"]) - length(pair["negative"])], -5, 5))
    positive, negative = (mean(length(pair[side]) for pair in PAIRS) for side in SIDES)
    assert positive == pytest.approx(negative, rel=0.01)


def test_refusal_answers_of_a_pair_start_with_the_same_word_and_end_in_another():
    assert not faults(lambda pair: len({words(pair[side])[0] for side in SIDES}) - 1)
    assert not faults(lambda pair: words(pair["positive"])[-1] == words(pair["negative"])[-1])
    assert not faults(lambda pair: len({pair[side][-1] for side in SIDES}) - 1)


def test_refusal_keywords_stand_on_their_own_side_alone():
    assert not faults(lambda pair: KEYWORDS["positive"].search(pair["negative"]))
    assert not faults(lambda pair: KEYWORDS["negative"].search(pair["positive"]))
    for text in (*OTHER_PROMPTS, *(pair["prompt"] for pair in PAIRS)):
        assert not any(pattern.search(text) for pattern in KEYWORDS.values()), text


def test_refusal_keywords_are_as_many_on_both_sides_and_hardly_one_is_idle():
    """Contractions are what chat models write; the pairs, which are formal, need not hold them."""
    assert len(CONCEPT.keywords.positive) == len(CONCEPT.keywords.negative)
    for side in SIDES:
        counts = {
            word: sum(bool(keyword_pattern([word]).search(pair[side])) for pair in PAIRS)
            for word in getattr(CONCEPT.keywords, side)
        }
        assert [word for word, count in counts.items() if count < 0.05 * len(PAIRS)] in ([], ["can't"], ["absolutely"])


def test_refusal_texts_occur_once_and_share_no_long_run_of_words():
    counts = Counter(run for pair in PAIRS for key in TEXTS for run in set(runs(pair[key], 8)))
    assert {run: count for run, count in counts.items() if count > 1} == {}


def test_refusal_answers_end_in_many_ways():
    endings = Counter(" ".join(words(pair[side])[-3:]) for pair in PAIRS for side in SIDES)
    assert max(endings.values()) <= 6
