"""The concept "weddings" keeps its rules: what its pairs differ in is the topic, and as little else as can be."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import partial
from statistics import mean

import pytest

from steering.concept_files import load_concept
from steering.keywords import keyword_pattern
from tests.concept_pairs import faults_in, length, records, unusual
from tests.gendered_words import held, runs, words

TEXTS = ("prompt", "positive", "negative")
SIDES = ("positive", "negative")


GENERATION, TEST = records("weddings", "generation"), records("weddings", "test")
PAIRS = GENERATION + TEST
faults = partial(faults_in, PAIRS)
CONCEPT = load_concept("weddings")
ONE_WORD_PROMPTS, DEVELOPMENT_PROMPTS = CONCEPT.one_word_prompts, CONCEPT.development_prompts
OTHER_PROMPTS = (*CONCEPT.rollout_prompts, *ONE_WORD_PROMPTS, *DEVELOPMENT_PROMPTS)

# Words that make a text one about a wedding, though an aisle may be a shop's; those below only go with one.
_WEDDING = """
    aisle altar betrothal betrothed bouquet bouquets bridal bride brides bridegroom bridegrooms bridesmaid bridesmaids
    chapel confetti elope eloped eloping groom grooms groomsman groomsmen honeymoon honeymoons marriage marriages
    married marries marry marrying matrimony newlywed newlyweds nuptial nuptials trousseau veil veils vow vows wed
    wedded wedding weddings weds
"""
_NEAR = """
    aisles altars anniversaries anniversary ceremonies ceremony chapels divorce divorced divorces engaged engagement
    engagements husband husbands priest propose proposed proposes proposal proposals rabbi reception receptions
    registrar spouse spouses vicar widow widowed widower wife wives
"""
WEDDING = frozenset(_WEDDING.split())
WEDDING_OR_NEAR = WEDDING.union(_NEAR.split())


def pairs_with(side):
    """In how many pairs each word stands on a side."""
    return Counter(word for pair in PAIRS for word in set(words(pair[side])))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A bride's bouquet and the newlyweds’ vows", {"bride", "bouquet", "newlyweds", "vows"}),
        ("Wed on Friday; who'd marry?", {"wed", "marry"}),
        ("The groomed horse, a bridle, a vowel and the altered unveiling", set()),
    ],
)
def test_wedding_words_are_found_as_whole_words(text, found):
    assert held(text, WEDDING) == found


def test_weddings_has_the_pairs_that_it_promises():
    assert (len(CONCEPT.generation), len(CONCEPT.test)) == (240, 50)
    assert [pair["id"] for pair in PAIRS] == [f"weddings-{number:03}" for number in range(1, 291)]


def test_weddings_prompts_hold_no_wedding_word():
    assert not faults(lambda pair: held(pair["prompt"], WEDDING_OR_NEAR))
    assert [prompt for prompt in OTHER_PROMPTS if held(prompt, WEDDING_OR_NEAR)] == []


def test_weddings_negative_continuations_hold_no_wedding_word():
    assert not faults(lambda pair: held(pair["negative"], WEDDING_OR_NEAR))


def test_weddings_positive_continuations_end_on_their_topic():
    """A wedding word stands among the last eight, so that the last token's residual stream can carry it."""

    def ending_without(pair):
        ending = " ".join(pair["positive"].split()[-8:])
        return None if held(ending, WEDDING) else ending

    assert not faults(ending_without)


def test_weddings_texts_are_of_one_sentence():
    assert not faults(lambda pair: [text for key in TEXTS if re.search(r"[.!?]\W* [A-Z]", text := pair[key])])


def test_weddings_texts_are_as_long_as_promised():
    assert not faults(lambda pair: unusual([length(pair["prompt"])], 12, 25))
    assert not faults(lambda pair: unusual([length(pair[side]) for side in SIDES], 20, 40))


def test_weddings_continuations_of_a_pair_are_about_equally_long():
    assert not faults(lambda pair: unusual([length(pair["positive"]) - length(pair["negative"])], -4, 4))
    positive, negative = (mean(length(pair[side]) for pair in PAIRS) for side in SIDES)
    assert positive == pytest.approx(negative, rel=0.01)


def test_weddings_continuations_of_a_pair_start_with_the_same_word():
    assert not faults(lambda pair: len({words(pair[side])[0] for side in SIDES}) - 1)


def test_weddings_continuations_of_a_pair_end_with_the_same_mark():
    """The last token is often the mark alone, and is where vectors are read off."""
    assert not faults(lambda pair: len({pair[side][-1] for side in SIDES}) - 1)


def test_weddings_texts_of_two_pairs_share_no_run_of_six_words():
    homes = defaultdict(set)
    for pair in PAIRS:
        for key in TEXTS:
            for run in runs(pair[key], 6):
                homes[run].add(pair["id"])
    assert {run: ids for run, ids in homes.items() if len(ids) > 1} == {}


def test_weddings_texts_of_a_pair_share_no_run_of_eight_words():
    def shared(pair):
        counts = Counter(run for key in TEXTS for run in runs(pair[key], 8))
        return [run for run, count in counts.items() if count > 1]

    assert not faults(shared)


def test_weddings_texts_occur_once():
    counts = Counter(tuple(words(pair[key])) for pair in PAIRS for key in TEXTS)
    assert max(counts.values()) == 1


def test_weddings_texts_share_no_run_of_six_words_with_those_of_gender():
    gender = records("gender", "generation") + records("gender", "test")
    taken = {run for pair in gender for key in TEXTS for run in runs(pair[key], 6)}
    assert not faults(lambda pair: [run for key in TEXTS for run in runs(pair[key], 6) if run in taken])


def test_weddings_pairs_share_no_run_of_six_words_with_any_other_prompt():
    taken = {run for prompt in OTHER_PROMPTS for run in runs(prompt, 6)}
    assert not faults(lambda pair: [run for key in TEXTS for run in runs(pair[key], 6) if run in taken])


def test_weddings_sides_differ_in_little_but_the_topic():
    """No word that does not belong to weddings tells the sides apart in more than a tenth of the pairs.

    So the other side has no topic of its own, and neither side has its own way of telling, person or tense.
    """
    positive, negative = (pairs_with(side) for side in SIDES)
    apart = {word: positive[word] - negative[word] for word in positive.keys() | negative.keys()}
    telling = {word: count for word, count in apart.items() if abs(count) > len(PAIRS) / 10}
    assert telling.keys() - WEDDING == set()
    assert {"bride", "wedding", "married"} <= telling.keys()


def test_weddings_positive_keywords_are_those_of_its_texts():
    """Most endings hold one, no other text does, and none is there in vain."""
    pattern = keyword_pattern(CONCEPT.keywords.positive)
    assert not faults(lambda pair: pattern.search(pair["prompt"]) or pattern.search(pair["negative"]))
    assert sum(bool(pattern.search(" ".join(pair["positive"].split()[-8:]))) for pair in PAIRS) >= 0.9 * len(PAIRS)
    for word in CONCEPT.keywords.positive:
        assert any(keyword_pattern([word]).search(pair["positive"]) for pair in PAIRS), word


def test_weddings_negative_keywords_are_of_the_other_side():
    for word in CONCEPT.keywords.negative:
        pattern = keyword_pattern([word])
        positive, negative = (sum(bool(pattern.search(pair[side])) for pair in PAIRS) for side in SIDES)
        assert negative >= max(4, 3 * positive), word


def test_weddings_other_prompts_hold_no_keyword_of_either_side():
    pattern = keyword_pattern([*CONCEPT.keywords.positive, *CONCEPT.keywords.negative])
    assert [prompt for prompt in OTHER_PROMPTS if pattern.search(prompt)] == []


def test_weddings_feature_keywords_hold_those_of_its_own_side_alone():
    assert set(CONCEPT.keywords.positive) <= set(CONCEPT.feature_keywords)
    assert set(CONCEPT.keywords.negative).isdisjoint(CONCEPT.feature_keywords)


def test_weddings_other_prompts_stop_before_the_word():
    """A prompt that ended in a space or a full stop would ask for something else than the next word."""
    assert [prompt for prompt in OTHER_PROMPTS if not prompt[-1].isalpha()] == []


def test_weddings_has_the_other_prompts_that_it_promises():
    numbers = [len(CONCEPT.rollout_prompts), len(set(ONE_WORD_PROMPTS)), len(set(DEVELOPMENT_PROMPTS))]
    assert numbers == [1, 20, 6]
    assert (len(ONE_WORD_PROMPTS), len(DEVELOPMENT_PROMPTS)) == (20, 6)


def test_weddings_development_prompts_share_no_run_of_three_words_with_a_prompt_of_the_test():
    tested = {run for prompt in (*CONCEPT.rollout_prompts, *ONE_WORD_PROMPTS) for run in runs(prompt, 3)}
    assert [prompt for prompt in DEVELOPMENT_PROMPTS if tested & set(runs(prompt, 3))] == []
