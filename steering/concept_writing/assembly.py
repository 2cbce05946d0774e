"""From written pairs to the files of a concept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tomli_w

from steering import stats
from steering.concept_writing.briefs import ConceptBrief
from steering.concept_writing.chat import TEMPERATURE, TOP_P
from steering.concept_writing.pairs import WrittenPair
from steering.concepts import Concept, ContrastPair
from steering.errors import DataError
from steering.files import write_file
from steering.keywords import Keywords
from steering.phrases import words

_TEST_SHARE = 1 / 7  # 50 of 350, as in the paper
_HOOKS_AS_PROMPTS = 8
_KEYWORDS = 12
_FEWEST_PAIRS_OF_A_WORD = 5
_LEVEL = 0.01


def split_by_id(pairs: Sequence[ContrastPair]) -> tuple[list[ContrastPair], list[ContrastPair]]:
    """Divide pairs into those for generation and a seventh for the test, each in the order in which they came.

    The SHA-256 of their ids decides: neither the order in which pairs were written nor what they say has a part in it.
    """
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(pair.id.encode()).hexdigest())
    chosen = {pair.id for pair in ranked[: max(1, round(len(pairs) * _TEST_SHARE))]}
    return [pair for pair in pairs if pair.id not in chosen], [pair for pair in pairs if pair.id in chosen]


def telling_words(pairs: Sequence[ContrastPair], excluded: frozenset[str] = frozenset()) -> Keywords:
    """Find the words that tell the sides apart, those that do so in most pairs first, at most twelve a side.

    Of each word of five or more pairs it is tested whether one side holds it and the other does not more often than the
    reverse (exact McNemar test over pairs, Holm over the words and both sides, at .01).

    Args:
        pairs: Of the generation split: the test has no part in the choice of what it is judged by.
        excluded: Words that are not to be chosen.

    Raises:
        DataError: No word tells a side.
    """
    sides = [[frozenset(words(getattr(pair, side))) for pair in pairs] for side in ("positive", "negative")]
    every = sorted({word for held in (*sides[0], *sides[1]) for word in held} - excluded)
    tests: list[tuple[int, int, str, float]] = []
    for word in every:
        positive, negative = (np.array([word in held for held in side]) for side in sides)
        gained, lost = stats.discordant(positive, negative)
        if gained + lost >= _FEWEST_PAIRS_OF_A_WORD:
            tests.append((0, gained - lost, word, stats.p_more_successes(positive, negative)))
            tests.append((1, lost - gained, word, stats.p_more_successes(negative, positive)))
    adjusted = stats.holm([p_value for *_, p_value in tests])
    found = [test for test, p_value in zip(tests, adjusted, strict=True) if p_value < _LEVEL]
    chosen = [_most([(excess, word) for of, excess, word, _ in found if of == side]) for side in (0, 1)]
    if not all(chosen):
        raise DataError("no word tells the sides of the pairs apart; give keywords for both sides")
    return Keywords(*chosen)


def _most(found: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(word for _, word in sorted(found, key=lambda entry: (-entry[0], entry[1]))[:_KEYWORDS])


def assemble(brief: ConceptBrief, written: Sequence[WrittenPair]) -> Concept:
    """Make the concept; what the brief leaves open is taken from the pairs.

    Rollouts then complete hooks of test pairs, and those for development hooks of generation pairs.

    Raises:
        DataError: The pairs are too few, or no word tells their sides apart.
    """
    generation, test = split_by_id([entry.pair for entry in written])
    rollout_prompts = brief.rollout_prompts or tuple(pair.prompt for pair in test[:_HOOKS_AS_PROMPTS])
    development_prompts = brief.development_prompts or tuple(pair.prompt for pair in generation[:_HOOKS_AS_PROMPTS])
    prompts = (*rollout_prompts, *brief.one_word_prompts, *development_prompts)
    prompted = frozenset(word for prompt in prompts for word in words(prompt))
    models = ", ".join(sorted({entry.model for entry in written}))
    source = (
        f"Written by {models}, asked by `steering concept generate` (temperature {TEMPERATURE}, top-p {TOP_P:g}) for "
        f"{brief.positive!r} on the positive side and {brief.negative!r} on the other."
    )
    return Concept(
        name=brief.name,
        description=brief.description,
        licence=brief.licence,
        source=source,
        rollout_prompts=rollout_prompts,
        one_word_prompts=brief.one_word_prompts,
        keywords=brief.keywords or telling_words(generation, prompted),
        generation=tuple(generation),
        test=tuple(test),
        development_prompts=development_prompts,
    )


def write_concept(concept: Concept, directory: Path, comment: str = "") -> None:
    """Write the files of a concept, `concept.toml` last: without it a directory is none.

    Args:
        concept: With the sides as they are to be in the files.
        directory: It must exist.
        comment: A line to stand above everything else in `concept.toml`.

    Raises:
        ResultsError: A file cannot be written.
    """
    for split, pairs in (("generation", concept.generation), ("test", concept.test)):
        lines = [json.dumps(pair.record, ensure_ascii=False) + "\n" for pair in pairs]
        write_file(directory / f"{split}.jsonl", "".join(lines).encode())
    table = {
        **{key: getattr(concept, key) for key in ("name", "description", "licence", "source")},
        **{key: list(getattr(concept, key)) for key in ("rollout_prompts", "one_word_prompts", "development_prompts")},
        "keywords": {side: list(getattr(concept.keywords, side)) for side in ("positive", "negative")},
    }
    if concept.chat:
        table["chat"] = True
    if concept.feature_keywords != concept.success_words:
        table["feature_keywords"] = list(concept.feature_keywords)
    text = tomli_w.dumps({key: value for key, value in table.items() if value or key != "development_prompts"})
    write_file(directory / "concept.toml", (f"# {comment}\n\n{text}" if comment else text).encode())
