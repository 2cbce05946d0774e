"""Words, sentences and how alike two texts are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.phrases import is_one_sentence, normalised, similarity, words

SETS = st.frozensets(st.sampled_from("abcdefg"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The king's crown — lost!", ["the", "king's", "crown", "lost"]),
        ("The king’s CROWN, lost", ["the", "king's", "crown", "lost"]),
        ("Größe Straße", ["grösse", "strasse"]),
        ("ﬁne", ["fine"]),
        ("... !", []),
    ],
)
def test_words_have_neither_case_nor_punctuation(text, found):
    assert words(text) == found
    assert normalised(text) == " ".join(found)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("He left.", True),
        ("He left!”", True),
        ("He left", False),
        ("He left. She stayed.", False),
        ("“Go!” he said. “Now!”", False),
        ("“Go away!” he said.", True),
        ("Mrs. Smith met Dr. Brown.", True),
        ("He waited… and left.", True),
        ("He waited... Then he left.", False),
        ("It cost 3.50 in all.", True),
        ("Elle partit. Être seul!", False),
        ("Она пришла домой.", True),
        ("Она пришла домой. Он ушёл в лес.", False),
        ("Poszła do domu. Żaden nie został.", False),
        ("वह घर आई।", True),
        ("वह घर आई। वह जंगल गया।", False),
        ("ذهب الرجل إلى البيت؟", True),
        ("הוא הלך הביתה. היא נשארה שם.", False),
        ('הוא צעק "עצור!" והלך הביתה.', True),
        ("ذهب د. أحمد إلى البيت.", True),
        ('그는 "멈춰!" 하고 외쳤다.', True),
        ("그는 집에 갔다. 그녀는 남았다.", False),
        ("", False),
    ],
)
def test_one_sentence_is_told_from_two(text, one):
    assert is_one_sentence(text) is one


def test_similarity_is_the_share_of_common_words():
    assert similarity(frozenset("abc"), frozenset("bcd")) == 2 / 4
    assert similarity(frozenset(), frozenset()) == 0


@given(SETS, SETS)
def test_similarity_is_symmetric_and_1_for_the_same_words_alone(first, second):
    assert similarity(first, second) == similarity(second, first)
    assert (similarity(first, second) == 1) == (first == second and bool(first))
