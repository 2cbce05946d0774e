"""Stories in what a chat model wrote, and what is wrong with them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from steering.phrases import is_one_sentence, words

#: Words of a sentence.
FEWEST_WORDS, MOST_WORDS = 4, 60

# With what models put around a label: numbers, asterisks, number signs, quotation marks of Markdown.
_LABEL = re.compile(r"^[\s>*_#\-\d.)(]*(hook|positive|negative)(?:\s+continuation)?[\s*_]*:[\s*_]*(.*)$", re.IGNORECASE)
_WRAPPING = "*_` \t"
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'"}


@dataclass(frozen=True)
class Story:
    """A hook with two continuations; empty where the reply had none."""

    hook: str = ""
    positive: str = ""
    negative: str = ""


def parse_stories(text: str) -> list[Story]:
    """Find the stories in a reply, whole or not.

    A label begins a part, on its line or on the next; a blank line or another label ends it. What stands outside of
    parts is passed over.
    """
    stories: list[dict[str, str]] = []
    label = ""
    for line in text.splitlines():
        found = _LABEL.match(line)
        if found:
            label = found[1].lower()
            if label == "hook" or not stories or label in stories[-1]:
                stories.append({})
            stories[-1][label] = found[2]
        elif line.strip() and label:
            stories[-1][label] += f" {line}"
        elif label and stories[-1][label].strip():
            label = ""
    return [Story(**{label: _cleaned(part) for label, part in story.items()}) for story in stories]


def fault(story: Story) -> str:
    """Why a story makes no pair, in words; empty where it does."""
    for part, text in vars(story).items():
        if found := _fault_of_part(text):
            return f"{part}: {found}"
    positive, negative = words(story.positive), words(story.negative)
    if positive == negative:
        return "continuations are the same"
    return "" if positive[0] == negative[0] else "continuations start with different words"


def _fault_of_part(text: str) -> str:
    if not text:
        return "missing"
    if not text.isprintable():
        return "holds control characters"
    if not FEWEST_WORDS <= len(words(text)) <= MOST_WORDS:
        return f"has fewer than {FEWEST_WORDS} or more than {MOST_WORDS} words"
    return "" if is_one_sentence(text) else "is not one sentence"


def _cleaned(part: str) -> str:
    """Without line breaks, Markdown, leading dots, and quotation marks around the whole."""
    text = " ".join(part.split()).strip(_WRAPPING)
    text = re.sub(r"^(?:\.{3}|…)\s*", "", text)
    closing = _QUOTES.get(text[:1])
    if closing and text.endswith(closing) and len(text) > 1 and not {text[0], closing} & set(text[1:-1]):
        text = text[1:-1].strip()
    return text
