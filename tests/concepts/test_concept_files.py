"""All faults are found, with their lines, and there are faults exactly where a file breaks a rule."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steering.concept_files import load_concept, read_concept_files
from steering.errors import DataError, UnknownNameError
from tests.concepts.test_concepts import edit, edit_pair


def faults(directory):
    found = read_concept_files(directory).faults
    return [f"{finding.place}: {finding.message}".replace(f"{directory}/", "") for finding in found]


def test_whole_concept_has_none(concept_directory):
    files = read_concept_files(concept_directory)
    assert files.findings == []
    assert files.concept == load_concept(str(concept_directory))
    assert [placed.place for placed in files.test] == [f"{concept_directory}/test.jsonl:{n}" for n in (1, 2, 3)]


def test_every_fault_is_found_with_its_line(concept_directory):
    edit(concept_directory, 'name = "royalty"', 'name = "Royalty"')
    edit(concept_directory, 'source = "Written for a test."\n', "")
    edit(concept_directory, 'rollout_prompts = ["Once there was", "Long ago lived"]', "rollout_prompts = []")
    edit(concept_directory, '"the old", "the young"', '"the old", 3')
    edit(concept_directory, 'negative = ["queen", "woman"]', 'negative = ["queen", "KING"]')
    edit_pair(concept_directory, 1, id="pair-8")
    edit_pair(concept_directory, 2, positive=None, negative="")
    edit_pair(concept_directory, 3, prompt="Story 7 of a ruler in land 7.")
    edit_pair(concept_directory, 5, negative="Then the king rode 4 miles.")
    with (concept_directory / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n{broken\n[1]\n")
    assert faults(concept_directory) == [
        "concept.toml: missing source",
        "concept.toml:5: 'one_word_prompts' must be a list of non-empty strings, found ['the old', 3]",
        "concept.toml:1: name is 'Royalty'; use lower-case letters, digits, '-' and '_'",
        "concept.toml:4: rollout_prompts is empty; give at least one prompt",
        "concept.toml:6: keywords: ['king'] stand on both sides, but for case or an s",
        "generation.jsonl:2: 'positive' is missing; it must be a non-empty string",
        "generation.jsonl:2: 'negative' is ''; it must be a non-empty string",
        "generation.jsonl:5: pair 'pair-4': the two continuations are the same",
        "test.jsonl:5: not valid JSON: Expecting property name enclosed in double quotes (column 2)",
        "test.jsonl:6: a JSON object is required, found list",
        "test.jsonl:3: pair id 'pair-8' occurs more than once, first at generation.jsonl:1",
        "test.jsonl:2: prompt in both splits, also at generation.jsonl:3",
    ]


def test_loading_names_the_first_fault_and_says_where_the_others_are_listed(concept_directory):
    edit_pair(concept_directory, 2, positive=None, negative="")
    edit_pair(concept_directory, 5, id="")
    with pytest.raises(DataError) as caught:
        load_concept(str(concept_directory))
    assert str(caught.value).replace(str(concept_directory), "DIR") == (
        "DIR/generation.jsonl:2: 'positive' is missing; it must be a non-empty string "
        "(and 2 more: `steering concept check DIR` lists all)"
    )


def test_files_that_are_missing_are_all_named(tmp_path):
    assert faults(tmp_path) == [f"{name}: no such file" for name in ("concept.toml", "generation.jsonl", "test.jsonl")]


def test_toml_that_is_none_hides_no_fault_of_the_pairs(concept_directory):
    (concept_directory / "concept.toml").write_text("name = ", encoding="utf-8")
    (concept_directory / "test.jsonl").write_text("\n", encoding="utf-8")
    first, second = faults(concept_directory)
    assert first.startswith("concept.toml: not valid TOML: Invalid value (at ")
    assert second == "test.jsonl: empty; it must hold one JSON object a line with id, prompt, positive, negative"


def test_prompt_of_both_kinds_and_half_a_keyword_table(concept_directory):
    edit(concept_directory, "[keywords]", 'development_prompts = ["Long ago lived"]\n[keywords]')
    edit(concept_directory, 'negative = ["queen", "woman"]\n', "")
    reason = "what is chosen on a prompt cannot be tested on it"
    assert faults(concept_directory) == [
        f"concept.toml:7: 'Long ago lived' is in rollout_prompts and in development_prompts; {reason}",
        "concept.toml:8: [keywords] must be a table with the lists 'positive' and 'negative'",
    ]


def test_key_added_at_the_end_of_the_file_is_below_keywords_and_a_fault(concept_directory):
    path = concept_directory / "concept.toml"
    path.write_text(path.read_text(encoding="utf-8") + 'feature_keywords = ["royal"]\n', encoding="utf-8")
    message = "feature_keywords stands in [keywords], where nothing reads it; put it above [keywords]"
    [fault] = faults(concept_directory)
    assert fault.endswith(f": {message}")
    with pytest.raises(DataError, match=re.escape(message)):
        load_concept(str(concept_directory))
    edit(concept_directory, "feature_keywords", "features")
    [warning] = read_concept_files(concept_directory).findings
    assert (warning.is_fault, warning.message) == (False, "features stands in [keywords], where nothing reads it")


def test_key_that_nobody_reads_is_a_warning(concept_directory):
    edit(concept_directory, "[keywords]", 'developement_prompts = ["x"]\n[keywords]')
    files = read_concept_files(concept_directory)
    [warning] = files.findings
    assert not warning.is_fault
    assert warning.place.endswith("concept.toml:7")
    assert warning.message == "nothing reads the key 'developement_prompts'; did you mean 'development_prompts'?"
    assert files.concept is not None


def is_text(value):
    return isinstance(value, str) and value.strip() != "" and "\ud800" not in value


def follows_the_rules(table, pair):
    """Whether a description and the first of the pairs make a concept; the other pairs do."""
    prompts = [table.get(key) for key in ("rollout_prompts", "one_word_prompts")] + [
        table.get("development_prompts", [])
    ]
    return (
        all(isinstance(texts, list) and all(map(is_text, texts)) for texts in prompts)
        and prompts[0] != []
        and not set(prompts[0]) & set(prompts[2])
        and all(is_text(table.get(key)) for key in ("name", "licence"))
        and table["name"] == table["name"].lower()
        and table.get("keywords") == {"positive": ["king"], "negative": ["queen"]}
        and all(is_text(pair.get(field)) for field in ("id", "prompt", "positive", "negative"))
        and pair["id"] != "pair-1"
        and pair["prompt"] != "Story 7 of a ruler in land 7."
        and pair["positive"] != pair["negative"]
    )


VALUES = st.sampled_from(
    ["", " ", "pair-1", "Story 7 of a ruler in land 7.", "Then the king rode 1 miles.", 3, None, [], "\ud800"]
)
PAIR_CHANGES = st.dictionaries(st.sampled_from(["id", "prompt", "positive", "negative"]), VALUES, max_size=2)
TABLE_CHANGES = st.dictionaries(
    st.sampled_from(["name", "licence", "rollout_prompts", "one_word_prompts", "development_prompts", "keywords"]),
    st.sampled_from(
        [None, "", "x", "X", 3, [], ["a"], [""], ["Once there was"], {"positive": ["a"], "negative": ["A"]}]
    ),
    max_size=2,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair_changes=PAIR_CHANGES, table_changes=TABLE_CHANGES)
def test_there_are_faults_exactly_where_a_rule_is_broken(
    concept_directory, tmp_path_factory, pair_changes, table_changes
):
    import tomli_w

    directory = tmp_path_factory.mktemp("changed")
    for path in concept_directory.iterdir():
        shutil.copy(path, directory)
    lines = (directory / "generation.jsonl").read_text(encoding="utf-8").splitlines()
    changed = json.loads(lines[0]) | pair_changes
    lines[0] = json.dumps({key: value for key, value in changed.items() if value is not None})
    (directory / "generation.jsonl").write_text("\n".join(lines), encoding="utf-8")
    table = {
        "name": "royalty",
        "description": "d",
        "licence": "l",
        "source": "s",
        "rollout_prompts": ["Once there was"],
        "one_word_prompts": [],
        "keywords": {"positive": ["king"], "negative": ["queen"]},
    } | table_changes
    table = {key: value for key, value in table.items() if value is not None}
    (directory / "concept.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    found = read_concept_files(directory)
    assert (not found.faults) == (found.concept is not None) == follows_the_rules(table, changed)


@pytest.mark.parametrize("name", ["concept.toml", "test.jsonl"])
def test_file_that_is_no_text_is_one_fault(concept_directory, name):
    (concept_directory / name).write_bytes(b"\xff\xfe")
    assert faults(concept_directory) == [f"{name}: not UTF-8 text (byte 0)"]


def test_file_in_the_place_of_its_directory_is_told(concept_directory):
    with pytest.raises(UnknownNameError, match="is a file: give the directory that its concept.toml is in"):
        load_concept(str(concept_directory / "concept.toml"))
