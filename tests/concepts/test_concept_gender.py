"""The texts that ship with the package keep their rules: the concept "gender" and the embedded neutral documents."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from steering.concept_files import load_concept
from steering.neutral import load_neutral
from tests.gendered_words import (
    FEMININE,
    FEMININE_PRONOUNS,
    MASCULINE,
    MASCULINE_PRONOUNS,
    held,
    runs,
    words,
)

DATA = Path(str(resources.files("steering"))) / "data"
CONCEPT = DATA / "concepts" / "gender"


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


GENERATION, TEST = records(CONCEPT / "generation.jsonl"), records(CONCEPT / "test.jsonl")
PAIRS = GENERATION + TEST
DOCUMENTS = records(DATA / "neutral" / "web.jsonl")
ONE_WORD_PROMPTS = load_concept("gender").one_word_prompts
DEVELOPMENT_PROMPTS = load_concept("gender").development_prompts

OWN_PRONOUNS = {"positive": MASCULINE_PRONOUNS, "negative": FEMININE_PRONOUNS}
OTHER_WORDS = {"positive": FEMININE, "negative": MASCULINE}


def faults(entries, fault):
    """What `fault` finds, by id, where it finds something."""
    return {entry["id"]: found for entry in entries if (found := fault(entry))}


def repeated(groups, parts):
    """Parts of texts that occur more than once."""
    counts = Counter(part for texts in groups for text in texts for part in parts(text))
    return [part for part, count in counts.items() if count > 1]


def pair_texts():
    return [[pair[key] for key in ("prompt", "positive", "negative")] for pair in PAIRS]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The heroes' swords", {"heroes"}),
        ("A king's crown and two Kings", {"king", "kings"}),
        ("He'd left; she’ll stay", {"he", "she"}),
        ("Ladies, wives, princesses and gentlemen", {"ladies", "wives", "princesses", "gentlemen"}),
        ("Snakes hiss, one misses gales, and the theme of this shell is human", set()),
    ],
)
def test_gendered_words_are_found_in_every_form(text, found):
    assert held(text, MASCULINE | FEMININE) == found


def test_no_gendered_word_stands_on_both_sides():
    assert not MASCULINE & FEMININE


def test_gender_has_the_pairs_that_it_promises():
    concept = load_concept("gender")
    assert (len(concept.generation), len(concept.test)) == (300, 50)


def test_gender_hooks_hold_no_gendered_word():
    assert not faults(PAIRS, lambda pair: held(pair["prompt"], MASCULINE | FEMININE))


def test_gender_continuations_of_a_pair_start_with_the_same_word():
    def first_words(pair):
        first = [words(pair[side])[0] for side in ("positive", "negative")]
        return first if first[0] != first[1] else None

    assert not faults(PAIRS, first_words)


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_gender_continuations_have_a_pronoun_of_their_side(side):
    assert not faults(PAIRS, lambda pair: None if held(pair[side], OWN_PRONOUNS[side]) else pair[side])


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_gender_continuations_hold_no_word_of_the_other_side(side):
    assert not faults(PAIRS, lambda pair: held(pair[side], OTHER_WORDS[side]))


def test_gender_texts_occur_once():
    assert not repeated(pair_texts(), lambda text: [tuple(words(text))])


def test_gender_texts_share_no_run_of_eight_words():
    assert not repeated(pair_texts(), runs)


def test_gender_splits_share_no_prompt():
    generation, test = ({tuple(words(pair["prompt"])) for pair in split} for split in (GENERATION, TEST))
    assert not generation & test


def test_gender_pairs_have_different_ids():
    assert len({pair["id"] for pair in PAIRS}) == len(PAIRS)


def test_gender_protagonists_stand_in_their_hooks():
    assert not faults(
        PAIRS, lambda pair: None if pair["protagonist"].lower() in pair["prompt"].lower() else pair["protagonist"]
    )


def test_gender_has_at_least_sixty_protagonists():
    assert len({pair["protagonist"].lower() for pair in PAIRS}) >= 60


def test_gender_one_word_prompts_are_of_both_sides_equally():
    """The first pronoun of a prompt is of the person whom the completion names; others may follow."""
    firsts = []
    for prompt in ONE_WORD_PROMPTS:
        pronouns = [word for word in words(prompt) if word in MASCULINE_PRONOUNS | FEMININE_PRONOUNS]
        assert pronouns, prompt
        firsts.append("feminine" if pronouns[0] in FEMININE_PRONOUNS else "masculine")
    assert Counter(firsts) == {"feminine": 10, "masculine": 10}


def test_gender_one_word_prompts_stop_before_the_word():
    """A prompt that ended in a space or a full stop would ask for something else than the next word."""
    assert [prompt for prompt in ONE_WORD_PROMPTS if not prompt[-1].isalpha()] == []
    assert len(set(ONE_WORD_PROMPTS)) == len(ONE_WORD_PROMPTS) == 20


def test_gender_one_word_prompts_do_not_end_in_a_gendered_word():
    assert [prompt for prompt in ONE_WORD_PROMPTS if words(prompt)[-1] in MASCULINE | FEMININE] == []


def test_gender_development_prompts_leave_the_gender_open():
    """The test prompt's own "doll" is the one exception."""
    concept = load_concept("gender")
    gendered = MASCULINE | FEMININE | {*concept.keywords.positive, *concept.keywords.negative}
    assert [prompt for prompt in DEVELOPMENT_PROMPTS if held(prompt, gendered) - {"doll"}] == []
    assert len(set(DEVELOPMENT_PROMPTS)) == 6


def test_gender_development_prompts_share_no_run_of_three_words_with_a_prompt_of_the_test():
    concept = load_concept("gender")
    tested = {run for prompt in (*concept.rollout_prompts, *concept.one_word_prompts) for run in runs(prompt, 3)}
    assert [prompt for prompt in DEVELOPMENT_PROMPTS if tested & set(runs(prompt, 3))] == []


def test_gender_development_prompts_stop_before_the_word():
    assert [prompt for prompt in DEVELOPMENT_PROMPTS if not prompt[-1].isalpha()] == []


def test_gender_hash_is_the_one_that_results_were_measured_on():
    """From before there were development prompts."""
    assert load_concept("gender").hash == "ac3591ea74d39cee3ee3971dabb7897f43bf4d33a9db16b7c0d3cc05ffbdd30a"


def test_neutral_documents_are_as_many_as_promised():
    assert len(DOCUMENTS) == len({document["id"] for document in DOCUMENTS}) == 256 + 64
    assert load_neutral("embedded", 1000).documents == tuple(document["text"] for document in DOCUMENTS)


def test_neutral_documents_have_a_hundred_to_a_hundred_and_sixty_words():
    def length(document):
        count = len(document["text"].split())
        return None if 100 <= count <= 160 else count

    assert not faults(DOCUMENTS, length)


def test_neutral_documents_hold_no_gendered_word():
    assert not faults(DOCUMENTS, lambda document: held(document["text"], MASCULINE | FEMININE))


def test_neutral_documents_share_no_run_of_eight_words():
    assert not repeated([[document["text"]] for document in DOCUMENTS], runs)


def test_neutral_documents_are_of_at_least_fifteen_categories():
    assert len({document["category"] for document in DOCUMENTS}) >= 15
