"""Concepts: contrast pairs, keywords and prompts that say what a vector is meant to steer towards."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from steering.errors import DataError, UnknownNameError, require_known
from steering.files import read_records, read_toml
from steering.hashing import json_hash
from steering.keywords import Keywords
from steering.paths import data_directory, is_directory, is_file

Side = Literal["positive", "negative"]
Split = Literal["test", "development"]
TEST, DEVELOPMENT = get_args(Split)

#: Of concept.toml; the first four are strings, `keywords` is a table, all others are lists of strings.
REQUIRED_KEYS = ("name", "description", "licence", "source", "rollout_prompts", "one_word_prompts", "keywords")
OPTIONAL_KEYS = ("feature_keywords", "development_prompts")
CHAT = "chat"  # true or false; left out, it is false
#: Of each line of a file of pairs.
PAIR_FIELDS = ("id", "prompt", "positive", "negative")
#: What a concept may be called.
CONCEPT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


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
        if not CONCEPT_NAME.fullmatch(self.name):
            raise DataError(f"concept name {self.name!r}: use lower-case letters, digits, '-' and '_'")
        if not self.rollout_prompts:
            raise DataError(f"concept {self.name!r}: rollout_prompts is empty; give at least one prompt")
        for split in ("generation", "test"):
            if not getattr(self, split):
                raise DataError(f"concept {self.name!r}: the {split} split has no pairs")
        if len({pair.chat for pair in self.generation + self.test}) > 1:
            raise DataError(f"concept {self.name!r}: some pairs are of a chat, and others are not")
        if both := set(self.rollout_prompts) & set(self.development_prompts):
            raise DataError(
                f"concept {self.name!r}: {min(both)!r} is in rollout_prompts and in development_prompts; "
                "what is chosen on a prompt cannot be tested on it"
            )
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
        content |= {CHAT: True} if self.chat else {}
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


def load_concept(reference: str, toward: Side = "positive") -> Concept:
    """Load a concept by the name of a built-in one or by directory.

    The directory holds `concept.toml` beside `generation.jsonl` and `test.jsonl`.

    Args:
        reference: A built-in name (see `builtin_concepts`) or a path.
        toward: "negative" swaps the two sides.

    Raises:
        UnknownNameError: There is neither such a concept nor such a directory.
        DataError: A file is missing or malformed; the message names file and line.
    """
    require_known("side of a concept", [toward], get_args(Side))
    concept = read_concept(concept_directory(reference))
    return concept if toward == "positive" else concept.reversed()


def concept_directory(reference: str) -> Path:
    """Return where the files of a concept are, by the name of a built-in one or by directory.

    Raises:
        UnknownNameError: There is neither.
    """
    if reference in builtin_concepts():
        return _builtin_root() / reference
    if is_directory(reference):
        return Path(reference)
    remedy = "Or give a directory with a concept.toml."
    if is_file(reference):
        remedy = f"{reference} is a file: give the directory that its concept.toml is in."
    raise UnknownNameError("concept", reference, builtin_concepts(), remedy)


def builtin_concepts() -> list[str]:
    """Names of the concepts that ship with the package."""
    return sorted(entry.name for entry in _builtin_root().iterdir() if (entry / "concept.toml").is_file())


def _builtin_root() -> Path:
    return data_directory("concepts")


def read_concept(directory: Path) -> Concept:
    """Read the concept of a directory; DataError where a file is missing or malformed."""
    path = directory / "concept.toml"
    table = read_toml(path)
    if missing := [key for key in REQUIRED_KEYS if key not in table]:
        raise DataError(f"{path}: missing {', '.join(missing)}")
    keywords = table["keywords"]
    if not isinstance(keywords, dict) or not {"positive", "negative"} <= set(keywords):
        raise DataError(f"{path}: [keywords] must be a table with the lists 'positive' and 'negative'")
    if misplaced := sorted(keywords.keys() & {*OPTIONAL_KEYS, CHAT}):
        raise DataError(f"{path}: {misplaced_key(misplaced[0])}")
    chat = require_flag(path, table, CHAT) if CHAT in table else False
    generation, test = (_read_pairs(directory / f"{split}.jsonl", chat) for split in ("generation", "test"))
    values: dict[str, Any] = {key: require_string(path, table, key) for key in REQUIRED_KEYS[:4]}
    values |= {key: require_strings(path, table, key) for key in REQUIRED_KEYS[4:6]}
    sides = (require_strings(path, keywords, "positive"), require_strings(path, keywords, "negative"))
    values |= {key: require_strings(path, table, key) for key in OPTIONAL_KEYS if key in table}
    try:
        return Concept(**values, keywords=Keywords(*sides), generation=generation, test=test)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def misplaced_key(key: str) -> str:
    """What is wrong with a concept's key that was written below [keywords], as whatever is added to a file's end is."""
    return f"{key} stands in [keywords], where nothing reads it; put it above [keywords]"


def require_string(path: Path, table: dict[str, Any], key: str) -> str:
    """Return the text at a key of a file's table; DataError where it is something else, or blank."""
    value = table[key]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}: {key!r} must be a non-empty string, found {value!r}")
    return value


def require_strings(path: Path, table: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return the list of texts at a key of a file's table; DataError where it is something else, or one is blank."""
    value = table[key]
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry.strip() for entry in value):
        raise DataError(f"{path}: {key!r} must be a list of non-empty strings, found {value!r}")
    return tuple(value)


def require_flag(path: Path, table: dict[str, Any], key: str) -> bool:
    """Return the truth value at a key of a file's table; DataError where it is something else."""
    value = table[key]
    if not isinstance(value, bool):
        raise DataError(f"{path}: {key!r} must be true or false, found {value!r}")
    return value


def _read_pairs(path: Path, chat: bool) -> tuple[ContrastPair, ...]:
    pairs: dict[str, ContrastPair] = {}
    for number, record in read_records(path, PAIR_FIELDS):
        try:
            pair = ContrastPair(**{field: record[field].strip() for field in PAIR_FIELDS}, chat=chat)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        if pair.id in pairs:
            raise DataError(f"{path}:{number}: pair id {pair.id!r} occurs more than once")
        pairs[pair.id] = pair
    return tuple(pairs.values())


def _swapped(pair: ContrastPair) -> ContrastPair:
    return replace(pair, positive=pair.negative, negative=pair.positive)
