"""What a chat model is told to write pairs for a concept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from steering.concept_writing.replies import Story, fault
from steering.concepts import CONCEPT_NAME, NAME_RULE
from steering.errors import DataError, first_fault
from steering.keywords import Keywords
from steering.phrases import normalised, words

_STRICT = ConfigDict(extra="forbid", strict=True)
_LICENCE = "Written by a language model; the terms of its provider apply."


@dataclass(frozen=True)
class Example:
    """A story of the kind that is wanted.

    Attributes:
        hook: The shared beginning.
        positive: Its continuation on the side to steer towards.
        negative: Its continuation on the other side, with the same first word.
    """

    hook: str
    positive: str
    negative: str

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class ConceptBrief:
    """What a concept is about; the keys of a brief's TOML file.

    Attributes:
        name: Of the concept.
        description: One or two sentences.
        positive: What the continuations on the side to steer towards are like, for instance "a wedding takes place".
        negative: The same for the other side.
        licence: SPDX identifier or a sentence.
        rollout_prompts: As in concept.toml; where there are none, hooks of test pairs serve.
        one_word_prompts: As in concept.toml.
        development_prompts: As in concept.toml; where there are none, hooks of generation pairs serve.
        keywords: As in concept.toml; where there are none, they are found in the pairs.
        example: Shown to the model.
    """

    name: str
    description: str
    positive: str
    negative: str
    licence: str = _LICENCE
    rollout_prompts: tuple[str, ...] = ()
    one_word_prompts: tuple[str, ...] = ()
    development_prompts: tuple[str, ...] = ()
    keywords: Keywords | None = None
    example: Example | None = None

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def __post_init__(self) -> None:
        """Refuse what no concept could be made of, before anything is written."""
        if not CONCEPT_NAME.fullmatch(self.name):
            raise DataError(f"name {self.name!r}: use {NAME_RULE}")
        for key in ("description", "positive", "negative", "licence"):
            if not getattr(self, key).strip():
                raise DataError(f"{key} is empty")
        if normalised(self.positive) == normalised(self.negative):
            raise DataError(f"positive and negative are the same, {self.positive!r}: no pair could tell them apart")
        prompts = self.rollout_prompts + self.one_word_prompts + self.development_prompts
        if not all(prompt.strip() for prompt in prompts):
            raise DataError("a prompt is empty")
        if both := set(self.rollout_prompts) & set(self.development_prompts):
            raise DataError(f"{min(both)!r} is in rollout_prompts and in development_prompts")
        if self.example and (found := fault(Story(**vars(self.example)))):
            raise DataError(f"example: {found}")

    def prompt(self, stories: int, known_hooks: Sequence[str]) -> str:
        """What the model is asked, after Fig. 10 of the paper, for any concept.

        Two things are not in the paper: the last words of a continuation must differ, because vectors are read at the
        last token; and hooks that exist are shown, because a prompt that never changes is answered alike.

        Args:
            stories: How many to ask for.
            known_hooks: Some that have been written.
        """
        task = (
            f"Your task will be to write short two-sentence stories about a contrast: {_clause(self.description)}. "
            "First a story hook, and then two different continuations of it. In the continuation called Positive: "
            f"{_clause(self.positive)}. In the continuation called Negative: {_clause(self.negative)}."
        )
        rules = (
            "The hook is one sentence and must not give away which of the two follows. Each continuation is one "
            "sentence. Let the contrast be strong, so that it is easy to see which continuation is which, and plain in "
            "the last words too; the story itself should stay the same. Make sure that the first word of both "
            "continuations is the same."
        )
        form = f"{_FORM if self.example is None else 'Example:'}\n\n{_layout(self.example or _PLACEHOLDERS)}"
        request = (
            f"Again, make sure that both continuations start with the same word{_first_word(self.example)}. "
            f"Write {stories} short stories like this."
        )
        return "\n\n".join([task, rules, form, *_avoided(known_hooks), request])


_FORM = "Write each story in this form:"
_PLACEHOLDERS = Example("<one sentence>", "<one sentence>", "<one sentence that starts with the same word>")


def concept_brief(table: Mapping[str, Any], place: str) -> ConceptBrief:
    """Make a brief of what a user gave.

    Args:
        table: Key -> value.
        place: Where they were given, for messages.

    Raises:
        DataError: A key is missing, unknown or makes no sense.
    """
    try:
        return _BRIEF.validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise DataError(f"{place}: {first_fault(error)}") from None
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


_BRIEF = TypeAdapter(ConceptBrief)


def _layout(example: Example) -> str:
    parts = ("Hook", example.hook), ("Positive", example.positive), ("Negative", example.negative)
    return "\n\n".join(f"{label}:\n{_line(text)}" for label, text in parts)


def _avoided(known_hooks: Sequence[str]) -> list[str]:
    if not known_hooks:
        return []
    listed = "\n".join(f"- {hook}" for hook in known_hooks)
    return [f"Choose other protagonists and places than in these hooks, which exist already:\n{listed}"]


def _first_word(example: Example | None) -> str:
    first = words(example.positive)[:1] if example else []
    return f" (here: {first[0]})" if first else ""


def _line(text: str) -> str:
    return " ".join(text.split())


def _clause(text: str) -> str:
    """On one line, without the full stop that is set after it."""
    return _line(text).rstrip(".")
