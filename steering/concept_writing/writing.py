"""Having a chat model write a concept's pairs, a few at a time, until there are enough."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from steering.concept_writing.assembly import assemble, write_concept
from steering.concept_writing.briefs import ConceptBrief
from steering.concept_writing.chat import Reply
from steering.concept_writing.pairs import KnownTexts, PartialFile, WrittenPair, open_partial
from steering.concept_writing.replies import Story, fault, parse_stories
from steering.concepts import Concept, ContrastPair
from steering.errors import DataError, EndpointError, ResultsError
from steering.progress import Reporter
from steering.tables.wording import visible

# One after another without a new pair: the model does not do what it is asked, or has no more to tell.
_USELESS_REPLIES = 10
_HOOKS_SHOWN = 6
_SHOWN = 120


class Asked(Protocol):
    """What `ChatClient` does."""

    def ask(self, prompt: str) -> Reply:
        """Answer a prompt."""
        ...


@dataclass
class Tally:
    """What became of the replies.

    Attributes:
        replies: How many there were.
        refused: Reason -> how many replies or stories.
    """

    replies: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Each reason with its count, the most frequent first."""
        return [f"{count} × {reason}" for reason, count in self.refused.most_common()]


@dataclass(frozen=True)
class Order:
    """What is wanted.

    Attributes:
        brief: What the pairs are about.
        model: Who writes them, for the concept's source.
        directory: Where the concept is to be.
        pairs: How many, of both splits together.
        stories: How many to ask for at a time.
    """

    brief: ConceptBrief
    model: str
    directory: Path
    pairs: int = 350
    stories: int = 3

    def __post_init__(self) -> None:
        """Refuse numbers that make no concept."""
        if self.pairs < 2:
            raise DataError(f"--pairs {self.pairs}: a concept needs at least 2, one for each split")
        if not 1 <= self.stories <= 20:
            raise DataError(f"--stories {self.stories}: ask for 1 to 20 at a time")


def generate(order: Order, client: Asked, progress: Reporter) -> tuple[Concept, Tally]:
    """Write a concept, going on where an earlier start ended.

    Raises:
        EndpointError: The endpoint refuses or answers nothing useful; the message says how many pairs are kept.
        DataError: The directory cannot be used, or the pairs make no concept.
        ResultsError: A file cannot be written.
        KeyboardInterrupt: The user stopped it; with a message of the same kind.
    """
    with open_partial(order.directory, order.brief) as partial:
        if len(partial.pairs) > order.pairs:
            kept = f"{len(partial.pairs)} pairs are written already, of which {order.pairs} would be used"
            raise DataError(f"{order.directory}: {kept}; ask for as many by --pairs, or choose another --output")
        try:
            tally = _fill(order, client, partial, progress)
            concept = assemble(order.brief, partial.pairs)
        except (EndpointError, DataError, ResultsError) as error:
            raise type(error)(f"{error}. {_kept(order, partial)}") from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped. {_kept(order, partial)}") from None
        comment = "" if order.brief.keywords else "The keywords are what tells the pairs apart; choose among them."
        write_concept(concept, order.directory, comment)
        partial.discard()
    return concept, tally


def _kept(order: Order, partial: PartialFile) -> str:
    """How to go on."""
    if not partial.pairs:
        return f"There is no pair yet to keep in {order.directory}"
    return f"{len(partial.pairs)} of {order.pairs} pairs are kept in {order.directory}; the same command goes on there"


def _fill(order: Order, client: Asked, partial: PartialFile, progress: Reporter) -> Tally:
    tally, known = Tally(), KnownTexts([entry.pair for entry in partial.pairs])
    useless = 0
    with progress.work("pairs", order.pairs) as advance:
        advance(len(partial.pairs))
        while len(partial.pairs) < order.pairs:
            tally.replies += 1
            stories, reason = _stories(client.ask(order.brief.prompt(order.stories, _some_hooks(partial, tally))))
            if reason:
                tally.refused[reason.split(":")[0]] += 1
                progress.note(visible(f"reply {tally.replies}: {reason}"))
            new = _keep(order, stories, partial, known, tally)
            advance(new)
            useless = 0 if new else useless + 1
            if useless == _USELESS_REPLIES:
                raise EndpointError(f"{useless} replies in a row held no new pair ({'; '.join(tally.lines())})")
    return tally


def _some_hooks(partial: PartialFile, tally: Tally) -> list[str]:
    """Others for each reply, in case the server answers an equal prompt from memory."""
    hooks = [entry.pair.prompt for entry in partial.pairs]
    return random.Random(tally.replies).sample(hooks, min(_HOOKS_SHOWN, len(hooks)))  # noqa: S311 - no secret


def _stories(reply: Reply) -> tuple[list[Story], str]:
    """The stories of a reply, or why there are none."""
    stories = parse_stories(reply.text)
    if reply.fault or stories:
        return stories, reply.fault
    return [], f"a reply without a story: {' '.join(reply.text.split())[:_SHOWN]!r}"


def _keep(order: Order, stories: list[Story], partial: PartialFile, known: KnownTexts, tally: Tally) -> int:
    """Keep what is new and without fault, and no more than is wanted; return how many."""
    before = len(partial.pairs)
    for story in stories:
        reason = fault(story) or ("repeats an earlier story" if known.repeats(story) else "")
        if reason:
            tally.refused[reason] += 1
        elif len(partial.pairs) < order.pairs:
            known.add(story)
            identifier = f"{order.brief.name}-{partial.next_number:03d}"
            pair = ContrastPair(identifier, story.hook, story.positive, story.negative)
            partial.append(WrittenPair(pair, order.model))
    return len(partial.pairs) - before
