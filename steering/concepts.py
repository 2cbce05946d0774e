"""Concepts: contrast pairs, keywords and prompts that say what a vector is meant to steer towards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from steering.errors import DataError
from steering.hashing import json_hash
from steering.keywords import Keywords

Side = Literal["positive", "negative"]
Split = Literal["test", "development"]
TEST, DEVELOPMENT = get_args(Split)

#: Of each line of a file of pairs.
PAIR_FIELDS = ("id", "prompt", "positive", "negative")

#: What a concept may be called.
CONCEPT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
#: What that is, in words.
NAME_RULE = "lower-case letters, digits, '-' and '_'"


@dataclass(frozen=True)
class ContrastPair:
    """One prompt with two continuations that differ in the concept.

    Attributes:
        id: Unique within a concept.
        prompt: The shared beginning.
        positive: The continuation on the side to steer towards.
        negative: The continuation on the other side.
        chat: Whether they are a user's message and two answers to it, to be read in a model's chat template.
    """

    id: str
    prompt: str
    positive: str
    negative: str
    chat: bool = False

    def __post_init__(self) -> None:
        """Refuse blank fields."""
        for field in PAIR_FIELDS:
            if not getattr(self, field).strip():
                raise DataError(f"pair {self.id!r}: {field!r} is empty")
        if self.positive == self.negative:
            raise DataError(f"pair {self.id!r}: the two continuations are the same")

    @property
    def record(self) -> dict[str, str]:
        """What a file of pairs says of it."""
        return {field: getattr(self, field) for field in PAIR_FIELDS}


@dataclass(frozen=True)
class Concept:
    """What to steer towards: pairs to construct vectors from, and material to measure them with.

    Attributes:
        name: Lower-case identifier.
        description: One or two sentences.
        licence: SPDX identifier or a sentence.
        source: Where the texts come from.
        rollout_prompts: Prompts that are completed by sampling; rollout i uses prompt i mod their number.
        one_word_prompts: Prompts that are completed greedily by one word; may be empty.
        keywords: Success words for each side.
        generation: Pairs that vectors are constructed from.
        test: Pairs that losses are measured on; shares no prompt with `generation`, or is part of it where `split` is
            "development".
        toward: The side of the files that is "positive" here.
        feature_keywords: Words, of both sides, by which features of a sparse autoencoder are found in their
            descriptions; the success words where none are given.
        development_prompts: What rollouts complete instead while doses and layers are chosen; may be empty.
        split: "test" as files are read, "development" for what `development` returns.
    """

    name: str
    description: str
    licence: str
    source: str
    rollout_prompts: tuple[str, ...]
    one_word_prompts: tuple[str, ...]
    keywords: Keywords
    generation: tuple[ContrastPair, ...]
    test: tuple[ContrastPair, ...]
    toward: Side = "positive"
    feature_keywords: tuple[str, ...] = ()
    development_prompts: tuple[str, ...] = ()
    split: Split = "test"

    def __post_init__(self) -> None:
        """Refuse empty splits, repeated ids and prompts shared between the splits."""
        if not self.feature_keywords:
            object.__setattr__(self, "feature_keywords", self.success_words)
        for _, fault in description_faults(self.name, self.rollout_prompts, self.development_prompts):
            raise DataError(f"concept {self.name!r}: {fault}")
        for split in ("generation", "test"):
            if not getattr(self, split):
                raise DataError(f"concept {self.name!r}: the {split} split has no pairs")
        if len({pair.chat for pair in self.generation + self.test}) > 1:
            raise DataError(f"concept {self.name!r}: some pairs are of a chat, and others are not")
        if self.split == "test":
            self._refuse_overlap()

    def _refuse_overlap(self) -> None:
        """Refuse test pairs that vectors are constructed from; those of the development split are, by design."""
        ids = [pair.id for pair in self.generation + self.test]
        if repeated := [name for name, count in Counter(ids).items() if count > 1]:
            raise DataError(f"concept {self.name!r}: pair id {repeated[0]!r} occurs more than once")
        shared = {pair.prompt for pair in self.generation} & {pair.prompt for pair in self.test}
        if shared:
            raise DataError(f"concept {self.name!r}: prompt in both splits: {min(shared)!r}")

    @property
    def chat(self) -> bool:
        """Whether all prompts are messages to a chat model, as those of the pairs are."""
        return self.generation[0].chat

    @property
    def success_words(self) -> tuple[str, ...]:
        """Keywords of both sides, in an order that does not depend on which is which."""
        return tuple(sorted(self.keywords.positive + self.keywords.negative))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything that can influence a result, the orientation included."""
        content = asdict(self)
        # Development prompts decide no result of the test split; in the development split they are the rollout prompts.
        for key in ("description", "licence", "source", "development_prompts", "split"):
            del content[key]
        content |= {split: [pair.record for pair in getattr(self, split)] for split in ("generation", "test")}
        content |= {"chat": True} if self.chat else {}
        # Left out where they say nothing new, so that such concepts keep the hash from before there were any.
        if self.feature_keywords == self.success_words:
            del content["feature_keywords"]
        return json_hash(content)

    def reversed(self) -> Concept:
        """The same concept with the sides swapped: what was negative is steered towards."""
        return replace(
            self,
            keywords=Keywords(self.keywords.negative, self.keywords.positive),
            generation=tuple(_swapped(pair) for pair in self.generation),
            test=tuple(_swapped(pair) for pair in self.test),
            toward="negative" if self.toward == "positive" else "positive",
        )

    def development(self) -> Concept:
        """The same concept with nothing of the test split in it, to choose doses and layers by.

        Rollouts complete the development prompts. Losses are measured on the first generation pairs, as many as there
        are test pairs: vectors were constructed from these, so their losses flatter and are good for comparisons only.
        There are no one-word prompts, as all of them belong to the test.

        Raises:
            DataError: The concept has no development prompts.
        """
        if not self.development_prompts:
            raise DataError(
                f"concept {self.name!r} has no development prompts; give `development_prompts` in its concept.toml, "
                "or use the test split"
            )
        return replace(
            self,
            rollout_prompts=self.development_prompts,
            one_word_prompts=(),
            test=self.generation[: len(self.test)],
            development_prompts=(),
            split="development",
        )


def description_faults(
    name: str, rollout_prompts: Sequence[str], development_prompts: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """What is wrong with a concept's name and prompts: the key that is at fault, and why."""
    if not CONCEPT_NAME.fullmatch(name):
        yield "name", f"name is {name!r}; use {NAME_RULE}"
    if not rollout_prompts:
        yield "rollout_prompts", "rollout_prompts is empty; give at least one prompt"
    if both := set(rollout_prompts) & set(development_prompts):
        reason = "what is chosen on a prompt cannot be tested on it"
        yield "development_prompts", f"{min(both)!r} is in rollout_prompts and in development_prompts; {reason}"


def _swapped(pair: ContrastPair) -> ContrastPair:
    return replace(pair, positive=pair.negative, negative=pair.positive)
