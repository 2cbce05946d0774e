"""The development split of a concept: its prompts, its pairs, and that it holds nothing of the test split."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from steering.concept_files import load_concept
from steering.concepts import Concept
from steering.errors import DataError

PROMPTS = ("In a far land lived", "The tale is about")


@pytest.fixture
def with_prompts(concept_directory):
    """The directory of a concept that has development prompts."""
    path = concept_directory / "concept.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.insert(0, f"development_prompts = {json.dumps(PROMPTS)}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return concept_directory


@pytest.fixture
def concept(with_prompts) -> Concept:
    return load_concept(str(with_prompts))


def write_prompts(directory, value):
    """Replace the development prompts in the file."""
    path = directory / "concept.toml"
    first, *others = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("development_prompts = ")
    path.write_text("\n".join([f"development_prompts = {value}", *others]), encoding="utf-8")


def test_development_prompts_are_those_of_the_file(concept, with_prompts):
    assert concept.development_prompts == PROMPTS
    assert concept.split == "test"
    write_prompts(with_prompts, "[]")
    assert load_concept(str(with_prompts)).development_prompts == ()


@pytest.mark.parametrize(
    ("value", "found"), [("'In a'", "'In a'"), ("['In a', 7]", "['In a', 7]"), ("['In a', ' ']", "['In a', ' ']")]
)
def test_development_prompts_of_the_wrong_type_are_refused(with_prompts, value, found):
    write_prompts(with_prompts, value)
    message = f"concept.toml:1: 'development_prompts' must be a list of non-empty strings, found {found}"
    with pytest.raises(DataError) as caught:
        load_concept(str(with_prompts))
    assert str(caught.value).endswith(message)


def test_prompt_of_both_splits_is_refused(with_prompts):
    write_prompts(with_prompts, '["In a far land lived", "Long ago lived"]')
    with pytest.raises(DataError, match=r"concept\.toml:1: 'Long ago lived' is in rollout_prompts and in dev"):
        load_concept(str(with_prompts))


def test_development_split_holds_nothing_of_the_test_split(concept):
    development = concept.development()
    assert development.rollout_prompts == PROMPTS
    assert development.one_word_prompts == ()
    texts = json.dumps([pair.__dict__ for pair in development.test])
    for pair in concept.test:
        assert all(text not in texts for text in (pair.id, pair.prompt, pair.positive, pair.negative))


def test_development_losses_are_of_as_many_generation_pairs_as_there_are_test_pairs(concept):
    development = concept.development()
    assert [pair.id for pair in development.test] == ["pair-0", "pair-1", "pair-2"]
    assert development.generation == concept.generation


def test_development_losses_are_of_all_generation_pairs_where_there_are_fewer(concept):
    short = replace(concept, generation=concept.generation[:2])
    assert [pair.id for pair in short.development().test] == ["pair-0", "pair-1"]


def test_development_split_of_a_reversed_concept_is_the_reversed_development_split(concept, with_prompts):
    reversed_later = concept.development().reversed()
    assert reversed_later == load_concept(str(with_prompts), "negative").development()
    assert reversed_later.test[0].positive == concept.generation[0].negative
    assert reversed_later.reversed() == concept.development()
    assert len({split.hash for split in (reversed_later, concept.development(), concept, concept.reversed())}) == 4


def test_development_prompts_are_no_part_of_the_hash_of_the_test_split(concept, with_prompts):
    write_prompts(with_prompts, '["Some other prompt"]')
    other = load_concept(str(with_prompts))
    assert other.hash == concept.hash == replace(concept, development_prompts=()).hash
    assert other.development().hash != concept.development().hash


def test_concept_without_development_prompts_has_no_development_split(concept_directory):
    concept = load_concept(str(concept_directory))
    with pytest.raises(DataError, match="concept 'royalty' has no development prompts; give `development_prompts`"):
        concept.development()


def test_test_split_is_still_refused_where_it_holds_a_generation_pair(concept):
    with pytest.raises(DataError, match="pair id 'pair-0' occurs more than once"):
        replace(concept, test=concept.generation[:1])
    renamed = replace(concept.generation[0], id="another")
    with pytest.raises(DataError, match="prompt in both splits: 'Story 0 of a ruler in land 0.'"):
        replace(concept, test=(renamed,))
