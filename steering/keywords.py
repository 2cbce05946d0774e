"""Words whose appearance in a completion counts as success, and how they are found in text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from steering.errors import DataError

_KATAKANA = r"\p{Katakana}ー"
# Scripts that put no space between words.
_UNSPACED = rf"\p{{Han}}\p{{Hiragana}}{_KATAKANA}\p{{Thai}}\p{{Lao}}\p{{Khmer}}\p{{Myanmar}}"


@dataclass(frozen=True)
class Keywords:
    """Words whose appearance in a completion counts as success, for each side."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse an empty side, a word that is blank or has blanks around it, and one that the other side matches."""
        for side in ("positive", "negative"):
            if not getattr(self, side):
                raise DataError(f"keywords: the {side} side is empty; give at least one word")
            for word in getattr(self, side):
                if not word or word != word.strip():
                    raise DataError(
                        f"keywords: {word!r} is blank, or has white space around it, and would match nothing"
                    )
        others = (self.negative, keyword_pattern(self.positive)), (self.positive, keyword_pattern(self.negative))
        if both := {word.lower() for words, pattern in others for word in words if pattern.fullmatch(word)}:
            raise DataError(f"keywords: {sorted(both)} stand on both sides, but for case or an s")


def keyword_pattern(keywords: Sequence[str]) -> regex.Pattern[str]:
    """Match any keyword as a whole word, in any case, with a plural or possessive s allowed; blank ones match nothing.

    "men" does not match in "moment", "king" matches in "the king's", and "strasse" in "Straße". Marks that stand above,
    below or beside a letter belong to the word, in one character with it or not; either apostrophe matches either; and
    any white space may stand between the words of a keyword.

    Where a script puts no space between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), a keyword matches beside
    any other letter, also within a longer word; one in katakana beside any that is not katakana. A symbol, such as
    an emoji, at a keyword's end may stand beside anything.
    """
    spelled = {form for word in keywords if word.strip() for form in _forms(word)}
    words = "|".join(map(_whole, sorted(spelled, key=len, reverse=True)))
    return regex.compile(words or "(?!)", regex.IGNORECASE | regex.FULLCASE)


def _whole(form: str) -> str:
    """Pattern of a keyword in one spelling, as a whole word."""
    letters = regex.sub(r"\p{M}", "", form) or form
    (before, _), (_, after) = _edges(letters[0]), _edges(letters[-1])
    spelled = regex.sub("['’]", "['’]", r"\s+".join(map(regex.escape, regex.split(r"\s+", form))))
    return f"{before}{spelled}{after}"


def _edges(letter: str) -> tuple[str, str]:
    """Patterns of what stands before a keyword that begins with a letter, and after one that ends with it."""
    if regex.match(f"[{_KATAKANA}]", letter):
        return rf"(?<![{_KATAKANA}\p{{M}}])", rf"(?![{_KATAKANA}\p{{M}}])"
    if regex.match(f"[{_UNSPACED}]", letter):
        return "", r"(?!\p{M})"
    if regex.match(r"\W", letter):  # a symbol ends a word by itself
        return "", ""
    return rf"(?<![^\W{_UNSPACED}])", rf"(?:['’]s|s['’]?)?(?![^\W{_UNSPACED}])"


def _forms(word: str) -> tuple[str, ...]:
    return word, unicodedata.normalize("NFC", word), unicodedata.normalize("NFD", word)
