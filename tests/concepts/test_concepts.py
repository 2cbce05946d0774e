"""Concepts: loading, what is refused and with which words, orientation and hash."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.concept_files import builtin_concepts, load_concept
from steering.concepts import Concept, ContrastPair
from steering.errors import DataError, UnknownNameError
from steering.keywords import Keywords

KEYS = ["name", "description", "licence", "source", "rollout_prompts", "one_word_prompts", "keywords"]
FIELDS = ["id", "prompt", "positive", "negative"]

TEXT = st.text("abc", min_size=1, max_size=5)
WORDS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3)


def edit(directory, old, new, file="concept.toml"):
    """Replace text in one of a concept's files."""
    path = directory / file
    content = path.read_text(encoding="utf-8")
    assert content.count(old) == 1
    path.write_text(content.replace(old, new), encoding="utf-8")


def edit_pair(directory, number, **changes):
    """Change or, with None, remove fields of a pair, by its line in generation.jsonl."""
    path = directory / "generation.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[number - 1]) | changes
    lines[number - 1] = json.dumps({key: value for key, value in record.items() if value is not None})
    path.write_text("\n".join(lines), encoding="utf-8")


def refusal(directory):
    """Return the message with which a concept is refused, paths shortened to the file's name."""
    with pytest.raises(DataError) as caught:
        load_concept(str(directory))
    message = str(caught.value)
    assert message.startswith(str(directory))
    return message.replace(f"{directory}/", "")


@st.composite
def concepts(draw):
    sides = draw(st.lists(st.tuples(TEXT, TEXT).filter(lambda two: two[0] != two[1]), min_size=2, max_size=5))
    pairs = [ContrastPair(f"id {i}", f"prompt {i}", *texts) for i, texts in enumerate(sides)]
    keywords = Keywords(tuple(draw(WORDS)), tuple(f"not {word}" for word in draw(WORDS)))
    return Concept("x", "d", "l", "s", ("p",), (), keywords, tuple(pairs[1:]), (pairs[0],))


def test_concept_holds_what_its_files_say(concept_directory):
    concept = load_concept(str(concept_directory))
    assert (concept.name, concept.description, concept.licence) == ("royalty", "Kings against queens.", "MIT")
    assert concept.source == "Written for a test."
    assert concept.rollout_prompts == ("Once there was", "Long ago lived")
    assert concept.one_word_prompts == ("the old", "the young")
    assert concept.keywords == Keywords(("king", "man"), ("queen", "woman"))
    assert [pair.id for pair in concept.generation] == [f"pair-{number}" for number in range(6)]
    assert concept.test[0] == ContrastPair(
        "pair-6", "Story 6 of a ruler in land 6.", "Then the king rode 6 miles.", "Then the queen sailed 6 seas."
    )
    assert (len(concept.test), concept.toward) == (3, "positive")


def test_concept_texts_lose_the_spaces_around_them(concept_directory):
    before = load_concept(str(concept_directory))
    edit_pair(concept_directory, 1, prompt=f"  {before.generation[0].prompt}\n")
    assert load_concept(str(concept_directory)) == before


def test_concept_may_have_further_keys(concept_directory):
    before = load_concept(str(concept_directory))
    edit(concept_directory, 'licence = "MIT"', 'licence = "MIT"\nversion = 3')
    edit_pair(concept_directory, 2, protagonist="ruler", rank=5)
    assert load_concept(str(concept_directory)) == before
    assert load_concept(str(concept_directory)).hash == before.hash


def test_features_are_found_by_the_success_words_of_both_sides_unless_others_are_given(concept_directory):
    assert sorted(load_concept(str(concept_directory)).feature_keywords) == ["king", "man", "queen", "woman"]
    edit(concept_directory, "[keywords]", 'feature_keywords = ["royal", "her"]\n[keywords]')
    assert load_concept(str(concept_directory)).feature_keywords == ("royal", "her")


def test_features_are_found_by_the_same_words_whatever_the_side(concept_directory):
    first, other = (load_concept(str(concept_directory), side) for side in ("positive", "negative"))
    assert first.feature_keywords == other.feature_keywords


def test_concept_may_have_no_one_word_prompts(concept_directory):
    edit(concept_directory, '["the old", "the young"]', "[]")
    assert load_concept(str(concept_directory)).one_word_prompts == ()


@pytest.mark.parametrize("key", KEYS)
def test_concept_without_a_key_is_refused(concept_directory, key):
    edit(concept_directory, key, f"further_{key}")
    assert refusal(concept_directory) == f"concept.toml: missing {key}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"royalty"', "3", "'name' must be a non-empty string, found 3"),
        ('"MIT"', '" "', "'licence' must be a non-empty string, found ' '"),
        ('"Kings against queens."', '["a"]', "'description' must be a non-empty string, found ['a']"),
        ('["the old", "the young"]', '"the"', "'one_word_prompts' must be a list of non-empty strings, found 'the'"),
        ('"Long ago lived"', "7", "'rollout_prompts' must be a list of non-empty strings, found ['Once there was', 7]"),
        ('["king", "man"]', '["king", ""]', "'positive' must be a list of non-empty strings, found ['king', '']"),
        (
            "[keywords]",
            "feature_keywords = 'her'\n[keywords]",
            "'feature_keywords' must be a list of non-empty strings, found 'her'",
        ),
    ],
)
def test_concept_with_a_value_of_the_wrong_type_is_refused(concept_directory, old, new, message):
    edit(concept_directory, old, new)
    assert re.sub(r":\d+:", ":", refusal(concept_directory), count=1) == f"concept.toml: {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["queen", "woman"]', "[]", "keywords: the negative side is empty; give at least one word"),
        ('["king", "man"]', '["king", "queen"]', "keywords: ['queen'] stand on both sides"),
        ('["king", "man"]', '[" king", "man"]', "keywords: ' king' is blank, or has white space around it"),
        ('negative = ["queen", "woman"]', "", "must be a table with the lists 'positive' and 'negative'"),
        ('["Once there was", "Long ago lived"]', "[]", "rollout_prompts is empty; give at least one prompt"),
        ('"royalty"', '"Royal family"', "name is 'Royal family'; use lower-case letters, digits, '-' and '_'"),
        ('licence = "MIT"', "licence = MIT", "not valid TOML: Invalid value (at line 3"),
    ],
)
def test_concept_that_makes_no_sense_is_refused(concept_directory, old, new, message):
    edit(concept_directory, old, new)
    found = refusal(concept_directory)
    assert re.match(r"concept\.toml(:\d+)?: ", found)
    assert message in found


def test_keywords_that_are_no_table_are_refused(concept_directory):
    content = (concept_directory / "concept.toml").read_text(encoding="utf-8").partition("[keywords]")[0]
    (concept_directory / "concept.toml").write_text(f'{content}keywords = ["king"]\n', encoding="utf-8")
    assert refusal(concept_directory).startswith("concept.toml:7: [keywords] must be a table with the lists 'positive'")


def test_deeply_nested_toml_is_refused(concept_directory):
    edit(concept_directory, '"MIT"', "[" * 10_000)
    assert refusal(concept_directory).startswith("concept.toml: not valid TOML")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("value", "found"), [(None, "is missing"), ("  ", "is '  '"), (4, "is 4")])
def test_pair_with_an_unusable_field_is_refused_with_its_line(concept_directory, field, value, found):
    edit_pair(concept_directory, 4, **{field: value})
    assert refusal(concept_directory) == f"generation.jsonl:4: {field!r} {found}; it must be a non-empty string"


def test_pair_made_in_memory_with_a_blank_field_is_refused():
    with pytest.raises(DataError, match="pair 'a': 'negative' is empty"):
        ContrastPair("a", "Once", "a king.", " ")


def test_faults_of_a_concept_in_the_working_directory_name_one_file(concept_directory, monkeypatch):
    edit_pair(concept_directory, 2, positive="")
    monkeypatch.chdir(concept_directory)
    with pytest.raises(DataError) as caught:
        load_concept(".")
    assert str(caught.value).startswith("generation.jsonl:2: 'positive' is ''")


@pytest.mark.parametrize("split", ["generation", "test"])
def test_empty_split_is_refused(concept_directory, split):
    (concept_directory / f"{split}.jsonl").write_text("\n", encoding="utf-8")
    message = refusal(concept_directory)
    assert message == f"{split}.jsonl: empty; it must hold one JSON object a line with id, prompt, positive, negative"


def test_split_without_pairs_made_in_memory_is_refused():
    pair = ContrastPair("a", "Once", "a king.", "a queen.")
    with pytest.raises(DataError, match="concept 'x': the test split has no pairs"):
        Concept("x", "d", "l", "s", ("p",), (), Keywords(("king",), ("queen",)), (pair,), ())


@pytest.mark.parametrize("file", ["concept.toml", "generation.jsonl", "test.jsonl"])
def test_missing_file_of_a_concept_is_named(concept_directory, file):
    (concept_directory / file).unlink()
    assert refusal(concept_directory) == f"{file}: no such file"


@pytest.mark.parametrize("repeated", ["pair-0", "pair-7"])
def test_repeated_id_is_refused_within_and_across_the_splits(concept_directory, repeated):
    edit_pair(concept_directory, 3, id=repeated)
    message = refusal(concept_directory)
    assert f"pair id {repeated!r} occurs more than once" in message
    assert ("generation.jsonl:3: " in message) is (repeated == "pair-0")


def test_prompt_in_both_splits_is_refused(concept_directory):
    edit_pair(concept_directory, 3, prompt="Story 8 of a ruler in land 8.")
    assert refusal(concept_directory) == "test.jsonl:3: prompt in both splits, also at generation.jsonl:3"


def test_unknown_concept_gives_a_near_match_and_the_other_way_to_name_one():
    with pytest.raises(UnknownNameError, match=r"unknown concept 'gendr'\. Did you mean 'gender'\?.*directory"):
        load_concept("gendr")
    assert "gender" in builtin_concepts()


@pytest.mark.parametrize("name", builtin_concepts())
def test_builtin_concept_has_the_name_under_which_it_is_loaded(name):
    assert load_concept(name).name == name


def test_toward_negative_swaps_continuations_and_keywords(concept_directory):
    concept, swapped = (load_concept(str(concept_directory), side) for side in ("positive", "negative"))
    assert swapped.keywords == Keywords(("queen", "woman"), ("king", "man"))
    for split in ("generation", "test"):
        for before, after in zip(getattr(concept, split), getattr(swapped, split), strict=True):
            assert (after.id, after.prompt) == (before.id, before.prompt)
            assert (after.positive, after.negative) == (before.negative, before.positive)
    assert (swapped.toward, swapped.rollout_prompts) == ("negative", concept.rollout_prompts)


@given(concepts())
def test_reversing_a_concept_is_its_own_inverse_and_changes_the_hash(concept):
    assert concept.reversed().reversed() == concept
    assert concept.reversed().reversed().hash == concept.hash
    assert concept.reversed().hash != concept.hash
    assert concept.reversed().feature_keywords == concept.feature_keywords
    written_reversed = replace(concept, keywords=concept.reversed().keywords, feature_keywords=())
    assert written_reversed.feature_keywords == concept.feature_keywords
    assert set(concept.feature_keywords) == {*concept.keywords.positive, *concept.keywords.negative}


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ('"man"', '"lord"', True),
        ('"woman"', '"lady"', True),
        ('"Long ago lived"', '"Far away"', True),
        ('"the young"', '"the new"', True),
        ("Kings against queens.", "Another description.", False),
        ("[keywords]", 'feature_keywords = ["her"]\n[keywords]', True),
        ("MIT", "CC0-1.0", False),
        ("Written for a test.", "Found somewhere.", False),
    ],
)
def test_hash_is_of_what_can_change_a_result(concept_directory, old, new, changes):
    before = load_concept(str(concept_directory)).hash
    edit(concept_directory, old, new)
    assert (load_concept(str(concept_directory)).hash != before) == changes


def test_hash_of_a_concept_without_words_for_features_is_that_from_before_there_were_any(concept_directory):
    table = tomllib.loads((concept_directory / "concept.toml").read_text(encoding="utf-8"))
    content = {key: table[key] for key in ("name", "rollout_prompts", "one_word_prompts", "keywords")}
    content["toward"] = "positive"
    for split in ("generation", "test"):
        lines = (concept_directory / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        content[split] = [json.loads(line) for line in lines]
    expected = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert load_concept(str(concept_directory)).hash == expected


@pytest.mark.parametrize("field", FIELDS)
def test_hash_is_of_the_pairs(concept_directory, field):
    before = load_concept(str(concept_directory)).hash
    assert re.fullmatch("[0-9a-f]{64}", before)
    edit_pair(concept_directory, 6, **{field: "another"})
    assert load_concept(str(concept_directory)).hash != before


def test_pair_whose_continuations_are_the_same_is_refused(concept_directory):
    edit_pair(concept_directory, 2, positive="It rained.", negative="It rained.")
    assert refusal(concept_directory) == "generation.jsonl:2: pair 'pair-1': the two continuations are the same"


def test_unknown_side_is_refused():
    with pytest.raises(UnknownNameError, match="unknown side of a concept 'sideways'. Known: negative, positive"):
        load_concept("gender", "sideways")


@pytest.mark.parametrize("reference", ["", "a" * 5000, "a\0b"])
def test_reference_that_cannot_be_a_path_is_an_unknown_concept(reference):
    with pytest.raises(UnknownNameError, match="unknown concept"):
        load_concept(reference)
