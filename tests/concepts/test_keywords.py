"""Success words: what a side may hold, and what counts as one in text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import DataError
from steering.keywords import Keywords, keyword_pattern

PAPER = ("dad", "father", "brother", "man", "men", "dude", "buddy", "boy", "guy", "gun", "prince", "king", "husband")


@pytest.mark.parametrize(
    ("negative", "told"),
    [("King", "king"), ("kings", "kings"), ("king's", "king's"), ("KINGS", "kings")],
)
def test_word_that_the_other_side_counts_as_its_own_is_refused(negative, told):
    for sides in (("king",), (negative,)), ((negative,), ("king",)):
        with pytest.raises(DataError, match="on both sides, but for case or an s") as error:
            Keywords(*sides)
        assert repr(told) in str(error.value)


def test_words_that_begin_alike_may_stand_on_either_side():
    assert Keywords(("king", "man"), ("kingdom", "woman")).positive == ("king", "man")


@pytest.mark.parametrize("word", ["", " ", "king "])
def test_blanks_are_refused(word):
    with pytest.raises(DataError, match="is blank, or has white space around it"):
        Keywords(("man", word), ("woman",))


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


@given(st.lists(st.text(min_size=1, max_size=5).filter(str.strip), min_size=1, max_size=4), st.text(max_size=30))
def test_keyword_pattern_treats_any_keyword_literally(words, text):
    assert keyword_pattern(words).search(f"{text} {words[0]} {text}")


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("strasse", "auf der Straße."),
        ("Straße", "DIE STRASSE"),
        ("don't", "they don’t"),
        ("don’t", "they don't"),
        ("café", "a cafe\u0301, open"),
        ("cafe\u0301", "a café, open"),
        ("राजा", "एक राजा था"),
        ("fire engine", "a Fire engine."),
        ("fire engine", "a fire\nengine"),
        ("fire  engine", "a fire\u00a0engine"),
        ("fire\x1cengine", "a fire\x1cengine"),
        ("👍", "great👍👍"),
        ("c++", "in C++11"),
        ("$100", "US$100"),
    ],
)
def test_keyword_is_found_however_it_is_written(keyword, text):
    assert keyword_pattern([keyword]).search(text)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("国王", "从前有一个国王住在山上。"),
        ("王様", "その王様はとても賢かった"),
        ("おとこ", "そのおとこは"),
        ("が", "これか\u3099王だ"),
        ("キング", "彼はキングだった"),
        ("Ｔシャツ", "白いＴシャツを"),
        ("กษัตริย์", "พระมหากษัตริย์ทรง"),
        ("ກະສັດ", "ພະກະສັດໄດ້"),
        ("ស្តេច", "ព្រះស្តេចបាន"),
        ("ဘုရင်", "ထိုဘုရင်သည်"),
        ("king王", "a king王様"),
        ("king", "彼はkingだった"),
    ],
)
def test_keyword_of_a_script_without_spaces_is_found_beside_other_letters(keyword, text):
    pattern = keyword_pattern([keyword])
    assert pattern.search(text).group() in (keyword, "か\u3099")
    assert keyword_pattern(["man", keyword]).search(text)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("キング", "バイキングの船"),
        ("ボス", "ボスー"),
        ("か", "これか\u3099王だ"),
        ("king王", "aking王"),
        ("왕", "왕이 말했다"),
    ],
)
def test_keyword_that_goes_on_is_not_found_where_a_word_s_end_can_be_seen(keyword, text):
    assert not keyword_pattern([keyword]).search(text)


@pytest.mark.parametrize(
    ("keyword", "text"), [("राज", "एक राजा था"), ("cafe", "a cafe\u0301, open"), ("", "a  b"), (" ", "a  b")]
)
def test_marks_belong_to_the_word_and_blanks_are_none(keyword, text):
    assert not keyword_pattern([keyword]).search(text)


@given(
    st.sampled_from(PAPER), st.sampled_from(["", "s", "'s", "’s", "s'"]), st.sampled_from([" ", ".", ", ", "\n", "!"])
)
def test_keyword_inflections_count_with_any_word_boundary(word, ending, after):
    assert keyword_pattern(PAPER).search(f"The {word.upper()}{ending}{after}rest")
