"""Words and sentences of short texts, in languages that put spaces between words."""

from __future__ import annotations

import unicodedata

import regex

#: Similarity of the words of two prompts above which they tell the same story.
NEAR_DUPLICATE = 0.6

_WORD = regex.compile(r"\w+(?:['’]\w+)*")
_END = r"[\p{Sentence_Terminal}…][\"”’»')\]]*"
_CLOSED = regex.compile(_END + "$")
# A sentence ends before white space and a capital letter, but not after these.
_ENDS_NO_SENTENCE = r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bProf)"
_NEXT = r"\s+[\"“‘«'(\[]*"
_CAPITAL = _ENDS_NO_SENTENCE + _END + _NEXT + r"\p{Lu}"
# Where letters have no case, what closes a quotation may be followed by more of its sentence, and so may a full stop
# after a single letter, which shortens a word.
_CASELESS = r"(?:(?<!\b\w)\.|[^\P{Sentence_Terminal}.]|…)" + _NEXT + r"\p{Lo}"
_NEXT_SENTENCE = regex.compile(f"{_CAPITAL}|{_CASELESS}")


def words(text: str) -> list[str]:
    """Words without case and punctuation, in their order; what belongs to a word by an apostrophe stays with it."""
    found: list[str] = _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))
    return found


def normalised(text: str) -> str:
    """What two texts have in common that differ in case, punctuation and white space alone."""
    return " ".join(words(text))


def similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard similarity of two sets of words: those in both, of those in either; 0 where there are none."""
    union = len(first | second)
    return len(first & second) / union if union else 0.0


def is_one_sentence(text: str) -> bool:
    """Whether a text ends as a sentence does, and holds no other."""
    return _CLOSED.search(text) is not None and _NEXT_SENTENCE.search(text) is None
