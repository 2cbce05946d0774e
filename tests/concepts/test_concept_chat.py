"""Concepts whose prompts are messages to a chat model."""

from __future__ import annotations

import pytest

from steering.concept_files import load_concept, read_concept_files
from steering.concept_writing.assembly import write_concept
from steering.errors import DataError
from tests.chat_templates import in_chat


@pytest.fixture
def chatting(concept_directory):
    path = concept_directory / "concept.toml"
    path.write_text("chat = true\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    return concept_directory


def test_all_pairs_of_a_chat_are_so_on_both_sides_and_splits(chatting):
    concept = load_concept(str(chatting))
    assert concept.chat
    assert all(pair.chat for pair in concept.generation + concept.test)
    swapped = load_concept(str(chatting), "negative")
    assert all(pair.chat for pair in swapped.generation + swapped.test)


def test_chat_changes_the_hash_and_false_does_not(concept_directory):
    path = concept_directory / "concept.toml"
    text = path.read_text(encoding="utf-8")
    hashes = []
    for line in ("", "chat = false\n", "chat = true\n"):
        path.write_text(line + text, encoding="utf-8")
        hashes.append(load_concept(str(concept_directory)).hash)
    assert hashes[0] == hashes[1] != hashes[2]
    path.write_text(text, encoding="utf-8")
    assert hashes[2] == in_chat(load_concept(str(concept_directory))).hash


def test_pairs_of_both_kinds_are_refused(concept_directory):
    concept = load_concept(str(concept_directory))
    with pytest.raises(DataError, match="some pairs are of a chat, and others are not"):
        type(concept)(**vars(concept) | {"test": in_chat(concept).test})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chat = true", 'chat = "yes"', r"concept\.toml:\d+: 'chat' must be true or false, found 'yes'"),
        ("chat = true\n", "", ""),
        ("[keywords]\n", "[keywords]\nchat = true\n", r"chat stands in \[keywords\], where nothing reads it"),
    ],
)
def test_key_that_is_none_is_named_by_reading_and_by_checking(chatting, old, new, message):
    path = chatting / "concept.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    faults = read_concept_files(chatting).faults
    if not message:
        assert not faults
        assert not load_concept(str(chatting)).chat
        return
    with pytest.raises(DataError, match=message):
        load_concept(str(chatting))
    [fault] = faults
    number = next(n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if "chat" in line)
    if "keywords" not in new:
        assert fault.place == f"{path}:{number}"
    assert fault.message.startswith("'chat' must be" if "yes" in new else "chat stands")


def test_key_is_known_to_the_check(chatting):
    assert not any("nothing reads" in finding.message for finding in read_concept_files(chatting).findings)


def test_concept_of_a_chat_survives_its_files(chatting, tmp_path):
    concept, copy = load_concept(str(chatting)), tmp_path / "copy"
    copy.mkdir()
    write_concept(concept, copy)
    assert load_concept(str(copy)) == concept


def test_show_says_so(chatting, call):
    _, out, _ = call("concept", "show", chatting)
    assert "prompts are messages to a chat model" in out
