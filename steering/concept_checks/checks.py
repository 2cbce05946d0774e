"""What a concept's author should look at again, though it can be loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from steering.concept_files import ConceptFiles, Finding, PlacedPair
from steering.concepts import Concept
from steering.keywords import keyword_pattern
from steering.phrases import NEAR_DUPLICATE, normalised, similarity, words

#: Of pairs, under which a split is called small; the paper has 300 and 50.
FEW_GENERATION, FEW_TEST = 50, 20
#: Of the mean number of words, by which the sides may differ.
LENGTH_TOLERANCE = 0.1

_CLOSE = 0.5
_MOST_TO_LEAST_KEYWORDS = 1.5
_PLACES_SHOWN = 5
_SIDES = ("positive", "negative")


def check_concept_files(files: ConceptFiles) -> list[Finding]:
    """Return all findings on a concept's files: faults first, then warnings, on what could be read.

    Args:
        files: As `read_concept_files` gives them.
    """
    pairs = [*files.generation, *files.test]
    warnings = [
        *_first_words(pairs),
        *_last_words(pairs),
        *_endings(pairs),
        *_repeated(files.generation),
        *_repeated(files.test),
    ]
    warnings += [*_in_both(files), *_close(files), *_lengths(files, pairs)]
    if files.concept is not None:
        path = str(files.directory / "concept.toml")
        warnings += [
            *_sizes(files),
            *_keyword_numbers(path, files.concept),
            *_keyword_sides(path, files.concept, pairs),
        ]
        warnings += [*_keywords_in_prompts(path, files.concept, pairs), *_prompts(path, files.concept)]
    return [*sorted(files.findings, key=lambda finding: not finding.is_fault), *warnings]


def _warning(place: str, message: str) -> Finding:
    return Finding(place, message, is_fault=False)


def _first_words(pairs: Sequence[PlacedPair]) -> Iterator[Finding]:
    found = [placed for placed in pairs if words(placed.pair.positive)[:1] != words(placed.pair.negative)[:1]]
    if found:
        message = "continuations start with different words, so that their first token tells the sides apart"
        yield _many(found, message)


def _last_words(pairs: Sequence[PlacedPair]) -> Iterator[Finding]:
    found = [placed for placed in pairs if words(placed.pair.positive)[-1:] == words(placed.pair.negative)[-1:]]
    if found:
        yield _many(
            found, "continuations end in the same word; vectors are read at the last token, so let them differ there"
        )


def _endings(pairs: Sequence[PlacedPair]) -> Iterator[Finding]:
    """Punctuation that ends the two sides differently more often than not."""
    found = [placed for placed in pairs if _ending(placed.pair.positive) != _ending(placed.pair.negative)]
    if len(found) > len(pairs) / 2:
        positive, negative = _ending(found[0].pair.positive), _ending(found[0].pair.negative)
        yield _many(
            found,
            f"continuations end in {positive!r} on the positive side and in {negative!r} on the other; vectors are "
            "read at the last token, and may then stand for punctuation",
        )


def _ending(text: str) -> str:
    """The last character of a text that is no letter or digit, or nothing."""
    last = text.rstrip()[-1:]
    return "" if last.isalnum() else last


def _repeated(pairs: Sequence[PlacedPair]) -> Iterator[Finding]:
    """Texts of one split that are the same but for case and punctuation."""
    for field in ("prompt", *_SIDES):
        first: dict[str, PlacedPair] = {}
        again = []
        for placed in pairs:
            earlier = first.setdefault(normalised(getattr(placed.pair, field)), placed)
            again += [] if earlier is placed else [placed]
        if again:
            yield _many(again, f"{field} of an earlier pair, but for case and punctuation")


def _in_both(files: ConceptFiles) -> Iterator[Finding]:
    """Test continuations that vectors are constructed from."""
    for side in _SIDES:
        known = {normalised(getattr(placed.pair, side)) for placed in files.generation}
        if found := [placed for placed in files.test if normalised(getattr(placed.pair, side)) in known]:
            yield _many(found, f"{side} of a generation pair, too: such a pair does not test anything new")


def _close(files: ConceptFiles) -> Iterator[Finding]:
    """Test prompts that share most of their words with a prompt that vectors are constructed from."""
    generation = [(placed, frozenset(words(placed.pair.prompt))) for placed in files.generation]
    for placed in files.test:
        own = frozenset(words(placed.pair.prompt))
        nearest, share = max(
            ((other, similarity(own, text)) for other, text in generation),
            key=lambda found: found[1],
            default=(None, 0.0),
        )
        if nearest is not None and share >= _CLOSE and nearest.pair.prompt != placed.pair.prompt:
            kind = "nearly repeats" if share > NEAR_DUPLICATE else "is close to"
            yield _warning(
                placed.place,
                f"test prompt {kind} the one at {nearest.place} ({share:.0%} of their words are the same)",
            )


def _lengths(files: ConceptFiles, pairs: Sequence[PlacedPair]) -> Iterator[Finding]:
    if not pairs:
        return
    means = [float(np.mean([len(words(getattr(placed.pair, side))) for placed in pairs])) for side in _SIDES]
    if max(means) > (1 + LENGTH_TOLERANCE) * min(means):
        yield _warning(
            str(files.directory),
            f"positive continuations have {means[0]:.1f} words on average and negative ones {means[1]:.1f}; "
            f"let lengths differ by at most {LENGTH_TOLERANCE:.0%}, or a vector may stand for length",
        )


def _sizes(files: ConceptFiles) -> Iterator[Finding]:
    for split, pairs, few in (("generation", files.generation, FEW_GENERATION), ("test", files.test, FEW_TEST)):
        if len(pairs) < few:
            place = str(files.directory / f"{split}.jsonl")
            yield _warning(place, f"{len(pairs)} pairs are few; aim at {few} at least (the paper has 300 and 50)")


def _keyword_numbers(path: str, concept: Concept) -> Iterator[Finding]:
    numbers = [len(getattr(concept.keywords, side)) for side in _SIDES]
    if max(numbers) > _MOST_TO_LEAST_KEYWORDS * min(numbers):
        yield _warning(
            path,
            f"{numbers[0]} keywords are positive and {numbers[1]} negative: the side with more of them succeeds more "
            "easily, so that the two directions cannot be compared",
        )


def _keyword_sides(path: str, concept: Concept, pairs: Sequence[PlacedPair]) -> Iterator[Finding]:
    """Keywords that do not tell the sides of the pairs apart."""
    for side, other in (_SIDES, _SIDES[::-1]):
        for keyword in getattr(concept.keywords, side):
            pattern = keyword_pattern([keyword])
            own, others = (
                sum(bool(pattern.search(getattr(placed.pair, of))) for placed in pairs) for of in (side, other)
            )
            if others and others >= own:
                yield _warning(
                    path,
                    f"keyword {keyword!r} of the {side} side is in {own} {side} and {others} {other} continuations",
                )


def _keywords_in_prompts(path: str, concept: Concept, pairs: Sequence[PlacedPair]) -> Iterator[Finding]:
    pattern = keyword_pattern(concept.keywords.positive + concept.keywords.negative)
    for key in ("rollout_prompts", "development_prompts"):
        prompts = getattr(concept, key)
        held = [(prompt, found[0]) for prompt in prompts if (found := pattern.search(prompt))]
        if held:
            prompt, word = held[0]
            yield _warning(
                path,
                f"{len(held)} of {len(prompts)} {key} hold a keyword, such as {word!r} in {prompt!r}: "
                "completions are led to a side before anything is steered",
            )
    found_in = [placed for placed in pairs if pattern.search(placed.pair.prompt)]
    if found_in:
        yield _many(found_in, "prompt holds a keyword, so that it favours a side")


def _prompts(path: str, concept: Concept) -> Iterator[Finding]:
    if not concept.development_prompts:
        yield _warning(path, "no development_prompts: layers can only be chosen on the test itself")
    for key in ("rollout_prompts", "development_prompts", "one_word_prompts"):
        prompts = getattr(concept, key)
        for prompt in dict.fromkeys(prompts):
            if prompt != prompt.strip():
                yield _warning(path, f"{key}: {prompt!r} begins or ends with a space, which is a token of its own")
            if prompts.count(prompt) > 1:
                yield _warning(path, f"{key}: {prompt!r} is there {prompts.count(prompt)} times")


def _many(found: Sequence[PlacedPair], message: str) -> Finding:
    """One warning for several pairs, at the first of them."""
    more = [placed.place.rsplit("/", 1)[-1] for placed in found[1:_PLACES_SHOWN]]
    rest = len(found) - 1 - len(more)
    tail = f" (also {', '.join(more)}{f' and {rest} more' if rest else ''})" if more else ""
    return _warning(found[0].place, message + tail)
