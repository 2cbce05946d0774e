"""Words that say or suggest a person's gender, to check texts that must hold none, or those of one side alone."""

from __future__ import annotations

import re

MASCULINE_PRONOUNS = frozenset(["he", "him", "his", "himself"])
FEMININE_PRONOUNS = frozenset(["she", "her", "hers", "herself"])

_MASCULINE_NOUNS = """
    actor bachelor bloke boy brother buddy businessman chap cowboy craftsman dad daddy dude duke emperor father fella
    fireman fisherman foreman gentleman godfather grandfather grandpa grandson groom gunman guy hero horseman husband
    king lad lord male man mister monk nephew patriarch policeman priest prince salesman sir son sportsman stepfather
    swordsman uncle waiter widower wizard woodsman workman
"""

_FEMININE_NOUNS = """
    actress aunt ballerina bride daughter duchess empress female gal girl goddess godmother granddaughter grandma
    grandmother heroine hostess lady lass madam maiden matriarch mom mommy mother mum mummy niece nun priestess
    princess queen seamstress sister stepmother waitress widow wife witch woman
"""

# Words that are used without a plural; "misses", for one, is a verb.
_MASCULINE_OTHERS = "boyhood boyish brotherhood brotherly fatherhood fatherly manhood mankind manly masculine mr"
_FEMININE_OTHERS = "feminine girlhood girlish miss motherhood motherly mrs ms sisterhood sisterly womanhood womanly"


def _both_numbers(nouns: str) -> set[str]:
    return {form for noun in nouns.split() for form in (noun, _plural(noun))}


def _plural(noun: str) -> str:
    for ending, replacement in (("man", "men"), ("wife", "wives"), ("hero", "heroes")):
        if noun.endswith(ending):
            return noun.removesuffix(ending) + replacement
    if noun.endswith(("ss", "tch")):
        return noun + "es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", noun) + "s"


MASCULINE = MASCULINE_PRONOUNS.union(_both_numbers(_MASCULINE_NOUNS), _MASCULINE_OTHERS.split())
FEMININE = FEMININE_PRONOUNS.union(_both_numbers(_FEMININE_NOUNS), _FEMININE_OTHERS.split())


def words(text: str) -> list[str]:
    """The words of a text in lower case; an apostrophe belongs to its word."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def held(text: str, sought: frozenset[str]) -> set[str]:
    """Which of some words a text holds, also as a possessive (king's, kings') and before a contraction (she'd)."""
    return sought.intersection(re.findall(r"[a-z]+", text.lower()))


def runs(text: str, length: int = 8) -> list[tuple[str, ...]]:
    """Every run of so many consecutive words."""
    all_words = words(text)
    return [tuple(all_words[start : start + length]) for start in range(len(all_words) - length + 1)]
