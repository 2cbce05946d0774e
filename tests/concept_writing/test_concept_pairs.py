"""What is new among stories, and the file that keeps pairs until there are enough."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace

import pytest

from steering.concept_writing.briefs import concept_brief
from steering.concept_writing.pairs import KnownTexts, WrittenPair, open_partial
from steering.concept_writing.replies import Story
from steering.concepts import ContrastPair
from steering.errors import DataError, ResultsError
from tests.concept_writing.test_concept_briefs import BRIEF, EXAMPLE

PAIR = ContrastPair("weddings-001", "A bell rang.", "Soon a bride came.", "Soon a coffin came.")


def written(number: int) -> WrittenPair:
    return WrittenPair(replace(PAIR, id=f"weddings-{number:03d}", prompt=f"Bell {number} rang."), "writer")


@pytest.fixture
def brief():
    return concept_brief(BRIEF, "x")


@pytest.mark.parametrize(
    ("story", "repeats"),
    [
        (Story("a bell rang!", "Then one came.", "Then two came."), True),
        (Story("A loud bell rang.", "Then one came.", "Then two came."), True),
        (Story("A loud clear bell rang.", "Then one came.", "Then two came."), False),
        (Story("A dog barked.", "SOON, a bride came!", "Then two came."), True),
        (Story("A dog barked.", "Then one came.", "Soon a coffin came"), True),
        (Story("A dog barked.", "Soon a coffin fell.", "Soon a bride fell."), False),
    ],
)
def test_what_repeats_is_told_from_what_is_new(story, repeats):
    """Of four words, three are the same: .75; of five, three: .6, the limit."""
    assert KnownTexts([PAIR]).repeats(story) is repeats


def test_pairs_are_found_again(tmp_path, brief):
    with open_partial(tmp_path / "new", brief) as partial:
        partial.append(written(1))
        partial.append(written(2))
    with open_partial(tmp_path / "new", brief) as partial:
        assert partial.pairs == [written(1), written(2)]


def test_unfinished_line_of_a_killed_process_is_dropped(tmp_path, brief):
    with open_partial(tmp_path, brief) as partial:
        partial.append(written(1))
        partial.append(written(2))
    content = partial.path.read_bytes()
    for end in range(content.index(b"\n", content.index(b"\n") + 1) + 1, len(content) - 1):
        partial.path.write_bytes(content[:end])
        with open_partial(tmp_path, brief) as again:
            assert again.pairs == [written(1)]


def test_pair_is_on_disk_when_append_returns(tmp_path, brief, monkeypatch):
    synced = []
    with open_partial(tmp_path, brief) as partial:
        monkeypatch.setattr("os.fsync", lambda number: synced.append(os.fstat(number).st_size))
        partial.append(written(1))
        assert synced == [partial.path.stat().st_size]
        assert json.loads(partial.path.read_text(encoding="utf-8").splitlines()[1])["prompt"] == "Bell 1 rang."


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"brief": "nonsense"}', "jsonl:1: not valid JSON"),
        ('{"brief": "[]"}', "jsonl:1: a JSON object is required"),
        ('{"brief": {"name": "a"}}', "jsonl:1: not valid JSON"),
    ],
)
def test_brief_that_was_damaged_is_one_message(tmp_path, brief, line, told):
    with open_partial(tmp_path, brief) as partial:
        partial.append(written(1))
    lines = partial.path.read_text(encoding="utf-8").splitlines()
    partial.path.write_text("\n".join([line, *lines[1:]]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=told), open_partial(tmp_path, brief):
        pass


def test_pair_that_is_blank_or_there_twice_is_named_with_its_line(tmp_path, brief):
    with open_partial(tmp_path, brief) as partial:
        partial.append(written(1))
    head, pair = partial.path.read_text(encoding="utf-8").splitlines()
    for lines, told in (
        ([head, pair, pair], "jsonl:3: pair id '.*' occurs more than once; remove the line"),
        (
            [head, json.dumps(json.loads(pair) | {"prompt": " "})],
            "jsonl:2: pair '.*': 'prompt' is empty; remove the line",
        ),
    ):
        partial.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=told), open_partial(tmp_path, brief):
            pass


def test_other_brief_is_refused_and_other_keywords_are_not(tmp_path, brief):
    with open_partial(tmp_path, brief) as partial:
        partial.append(written(1))
    with open_partial(tmp_path, concept_brief(BRIEF | {"rollout_prompts": ["Once"]}, "x")) as partial:
        assert partial.pairs == [written(1)]
    other = concept_brief(BRIEF | {"negative": "a war breaks out", "example": EXAMPLE}, "x")
    with pytest.raises(DataError, match=r"begun with another brief \(negative, example\); give the same, or"):  # noqa: SIM117
        with open_partial(tmp_path, other):
            pass
    with open_partial(tmp_path, brief) as partial:
        assert partial.pairs == [written(1)]


def test_start_that_kept_nothing_leaves_nothing(tmp_path, brief):
    with open_partial(tmp_path, brief):
        pass
    assert list(tmp_path.iterdir()) == []
    with open_partial(tmp_path, concept_brief(BRIEF | {"negative": "other"}, "x")) as partial:
        assert partial.pairs == []


def test_start_that_was_killed_before_the_first_pair_binds_nobody(tmp_path, brief):
    with open_partial(tmp_path, brief) as partial:
        beginning = partial.path.read_bytes()
    (tmp_path / ".partial.jsonl").write_bytes(beginning)
    with open_partial(tmp_path, concept_brief(BRIEF | {"negative": "other"}, "x")) as partial:
        assert partial.pairs == []
        partial.append(written(1))
    with open_partial(tmp_path, concept_brief(BRIEF | {"negative": "other"}, "x")) as partial:
        assert partial.pairs == [written(1)]


def test_pairs_without_a_description_are_not_touched(concept_directory, brief):
    (concept_directory / "concept.toml").unlink()
    refused = pytest.raises(DataError, match=r"there is a concept already \(generation.jsonl\)")
    with refused, open_partial(concept_directory, brief):
        raise AssertionError


def test_concept_that_is_there_is_not_touched(concept_directory, brief):
    before = {path.name: path.read_bytes() for path in concept_directory.iterdir()}
    with (
        pytest.raises(DataError, match=r"there is a concept already \(concept.toml\); choose another --output"),
        open_partial(concept_directory, brief),
    ):
        pass
    assert {path.name: path.read_bytes() for path in concept_directory.iterdir()} == before


def test_damaged_line_is_named(tmp_path, brief):
    with open_partial(tmp_path, brief) as partial:
        partial.append(written(1))
    with partial.path.open("a", encoding="utf-8") as file:
        file.write('{"id": "weddings-002"}\n')
    with (
        pytest.raises(DataError, match=r"\.partial\.jsonl:3: not a pair with id, prompt"),
        open_partial(tmp_path, brief),
    ):
        pass


def test_directory_that_cannot_be_made_is_one_message(tmp_path, brief):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResultsError, match="file/new: cannot be written: "), open_partial(tmp_path / "file/new", brief):
        pass


def _hold(directory, began, ended) -> None:
    with open_partial(directory, concept_brief(BRIEF, "x")):
        began.set()
        ended.wait(30)


def test_second_process_is_sent_away(tmp_path, brief):
    context = multiprocessing.get_context("fork")
    began, ended = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, began, ended))
    process.start()
    try:
        assert began.wait(30)
        with pytest.raises(DataError, match="another process writes a concept there"), open_partial(tmp_path, brief):
            pass
    finally:
        ended.set()
        process.join()
    with open_partial(tmp_path, brief) as partial:
        assert partial.pairs == []
