"""Each warning comes where its reason is, and only there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steering.concept_checks.checks import check_concept_files
from steering.concept_files import builtin_concepts, concept_directory, read_concept_files
from tests.concepts.test_concepts import edit, edit_pair


@pytest.fixture
def sound(tmp_path):
    """A concept without any warning: 60 + 20 pairs whose prompts share few words."""
    (tmp_path / "concept.toml").write_text(
        'name = "royalty"\ndescription = "d"\nlicence = "l"\nsource = "s"\nrollout_prompts = ["Once there was"]\n'
        'one_word_prompts = ["Then came the king and the"]\ndevelopment_prompts = ["Long ago"]\n'
        '[keywords]\npositive = ["king", "man"]\nnegative = ["queen", "woman"]\n',
        encoding="utf-8",
    )
    for split, numbers in (("generation", range(60)), ("test", range(60, 80))):
        lines = [
            json.dumps(
                {
                    "id": f"pair-{n}",
                    "prompt": f"The animal{n} went{n} home{n} over{n} hills{n}.",
                    "positive": f"Soon it met{n} the king.",
                    "negative": f"Soon it saw{n} the queen.",
                }
            )
            for n in numbers
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def warnings(directory):
    found = check_concept_files(read_concept_files(directory))
    assert not any(finding.is_fault for finding in found)
    return [f"{finding.place}: {finding.message}".replace(f"{directory}/", "") for finding in found]


def test_sound_concept_has_no_warning(sound):
    assert warnings(sound) == []


@pytest.mark.parametrize(
    ("number", "changes", "expected"),
    [
        (3, {"positive": "Later it met2 the king."}, "generation.jsonl:3: continuations start with different words"),
        (3, {"positive": "Soon the king met2 a Queen!"}, "generation.jsonl:3: continuations end in the same word"),
        (3, {"positive": "Soon it  MET0 the king!"}, "generation.jsonl:3: positive of an earlier pair, but for case"),
        (
            3,
            {"prompt": "the ANIMAL0 went0 home0 over0 hills0"},
            "generation.jsonl:3: prompt of an earlier pair, but for",
        ),
        (3, {"prompt": "Two queens went2 home2 over2."}, "generation.jsonl:3: prompt holds a keyword"),
    ],
)
def test_warning_about_a_pair_names_its_line(sound, number, changes, expected):
    edit_pair(sound, number, **changes)
    [warning] = warnings(sound)
    assert warning.startswith(expected)


def edit_all(directory: Path, side: str, change) -> None:
    for split in ("generation", "test"):
        path = directory / f"{split}.jsonl"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [json.dumps(record | {side: change(record[side])}) + "\n" for record in records]
        path.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize(("change", "ends"), [(lambda text: text[:-1], "''"), (lambda text: text[:-1] + "!", "'!'")])
def test_sides_that_end_in_other_punctuation(sound, change, ends):
    edit_all(sound, "positive", change)
    [warning] = warnings(sound)
    assert warning.startswith("generation.jsonl:1: continuations end in ")
    assert f"end in {ends} on the positive side and in '.' on the other" in warning


def test_a_few_pairs_may_end_in_other_punctuation(sound):
    for number in range(1, 11):
        edit_pair(sound, number, positive=f"Soon it met{number - 1} the king!")
    assert warnings(sound) == []


def test_several_pairs_are_one_warning_that_lists_some(sound):
    for number in (2, 3, 5, 8, 13, 21, 34):
        edit_pair(sound, number, positive=f"Later it met{number} a king.")
    [warning] = warnings(sound)
    places = "generation.jsonl:3, generation.jsonl:5, generation.jsonl:8, generation.jsonl:13 and 2 more"
    assert warning.startswith("generation.jsonl:2: continuations start with different words")
    assert warning.endswith(f"(also {places})")


def test_test_continuation_that_vectors_are_made_of(sound):
    edit_pair(sound, 7, positive="soon it met60 the KING.")
    edit_pair(sound, 8, positive="Soon it met62 the king.")
    assert warnings(sound) == [
        "test.jsonl:1: positive of a generation pair, too: such a pair does not test anything new (also test.jsonl:3)"
    ]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("The animal60 went60 home60 on foot.", "is close to {} (50% of their words are the same)"),
        ("The animal60 went60 home60 over60 hills.", "nearly repeats {} (71% of their words are the same)"),
        ("The animal60 went60 home60 to some rest.", None),
    ],
)
def test_test_prompt_close_to_a_generation_prompt(sound, prompt, said):
    """The first test prompt is "The animal60 went60 home60 over60 hills60."; 4 of 8, 5 of 7 and 4 of 9 are the same."""
    edit_pair(sound, 7, prompt=prompt)
    expected = [] if said is None else [f"test.jsonl:1: test prompt {said.format('the one at generation.jsonl:7')}"]
    assert warnings(sound) == expected


@pytest.mark.parametrize(("more", "warned"), [(" he saw and knew and loved well and dearly", True), ("", False)])
def test_sides_of_other_length(sound, more, warned):
    """Twelve of 80 positive continuations have nine words more: 5 + 9 * 12 / 80 = 6.35 against 5."""
    for number in range(1, 61, 5):
        edit_pair(sound, number, positive=f"Soon it met{number - 1}{more} the king.")
    found = warnings(sound)
    assert bool(found) is warned
    if warned:
        assert "positive continuations have 6.3 words on average and negative ones 5.0" in found[0]


def test_few_pairs(sound):
    for split, count in (("generation", 49), ("test", 19)):
        path = sound / f"{split}.jsonl"
        path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:count]), encoding="utf-8")
    assert [line.split(" are few")[0] for line in warnings(sound)] == [
        "generation.jsonl: 49 pairs",
        "test.jsonl: 19 pairs",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('["king", "man"]', '["king", "man", "prince", "duke"]', "4 keywords are positive and 2 negative"),
        ('["king", "man"]', '["king", "man", "prince"]', None),
        ('["king", "man"]', '["soon", "man"]', "keyword 'soon' of the positive side is in 80 positive and 80 negative"),
        (
            '["Once there was"]',
            '["Once there was", "The man and"]',
            "1 of 2 rollout_prompts hold a keyword, such as 'man'",
        ),
        ('["Long ago"]', '["Long ago a queen"]', "1 of 1 development_prompts hold a keyword, such as 'queen'"),
        ('development_prompts = ["Long ago"]\n', "", "no development_prompts: layers can only be chosen on"),
    ],
)
def test_warning_about_the_description(sound, old, new, expected):
    edit(sound, old, new)
    found = warnings(sound)
    if expected is None:
        assert found == []
    else:
        assert [line.startswith(f"concept.toml: {expected}") for line in found] == [True]


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ('["Once there was "]', "'Once there was ' begins or ends with a space, which is a token of its own"),
        ('["Once there was", "Once there was"]', "'Once there was' is there 2 times"),
    ],
)
def test_prompt_that_is_not_what_it_seems(sound, prompts, told):
    edit(sound, 'rollout_prompts = ["Once there was"]', f"rollout_prompts = {prompts}")
    assert warnings(sound) == [f"concept.toml: rollout_prompts: {told}"]


@pytest.mark.parametrize("name", builtin_concepts())
def test_concepts_that_ship_have_no_faults_and_few_warnings(name):
    assert len(warnings(concept_directory(name))) < 8
