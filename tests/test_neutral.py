"""Neutral documents: where they come from, how many are taken, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import DataError, UnknownNameError
from steering.neutral import NeutralSet, load_neutral
from steering.profile_files import load_profile
from steering.settings import Setting


class FakeHub:
    """Stands in for the package `datasets`: endless documents, or an error in place of them."""

    def __init__(self, error=None):
        self.error, self.calls, self.given = error, [], 0

    def load_dataset(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        if self.error:
            raise self.error
        return self._records()

    def _records(self):
        for number in itertools.count():
            self.given += 1
            yield {"text": f"Document {number}."}


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fake.load_dataset))
    return fake


def test_embedded_documents_come_from_the_package():
    neutral = load_neutral("embedded", 3)
    assert (neutral.name, len(neutral.documents)) == ("embedded", 3)
    assert all(len(document.split()) >= 100 for document in neutral.documents)


def test_file_gives_its_documents_in_order(neutral_file):
    neutral = load_neutral(str(neutral_file), 10)
    assert neutral.name == "neutral.jsonl"
    assert neutral.documents[0] == "Rain fell on the hills all day."
    assert neutral.documents[3] == "It is late."
    assert len(neutral.documents) == 4


@pytest.mark.parametrize(("count", "taken"), [(1, 1), (3, 3), (4, 4), (5, 4)])
def test_count_limits_the_documents(neutral_file, count, taken):
    everything = load_neutral(str(neutral_file), 4).documents
    assert load_neutral(str(neutral_file), count).documents == everything[:taken]


@pytest.mark.parametrize(("count", "skip"), [(1, 0), (2, 1), (1, 3), (9, 2), (4, 0)])
def test_documents_after_those_that_are_skipped(neutral_file, count, skip):
    lines = neutral_file.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for number, line in enumerate(lines, 1) if skip < number <= skip + count]
    assert list(load_neutral(str(neutral_file), count, skip=skip).documents) == texts


@pytest.mark.parametrize("skip", [4, 5, 1000])
def test_skipping_every_document_is_refused_with_both_numbers_and_the_remedy(neutral_file, skip):
    with pytest.raises(DataError) as caught:
        load_neutral(str(neutral_file), 2, skip=skip)
    message = str(caught.value)
    assert f"neutral.jsonl' has 4 documents, and {skip} were to be skipped, so none is left" in message
    assert "fewer `neutral_documents`, or give a longer file" in message


def test_skipping_fewer_than_no_document_is_refused(neutral_file):
    with pytest.raises(DataError, match=r"neutral\.jsonl': -1 documents were to be skipped; it must be 0 or more"):
        load_neutral(str(neutral_file), 2, skip=-1)


def test_fault_among_the_skipped_documents_is_found(neutral_file):
    neutral_file.write_text('{"txt": "Rain."}\n{"text": "Snow."}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"neutral\.jsonl:1: 'text' is missing"):
        load_neutral(str(neutral_file), 1, skip=1)


def test_embedded_test_split_is_what_results_were_measured_on():
    """Further documents follow the first 256; what was published stays comparable."""
    expected = "7f650f132b721e33f87a3a8bdcee97700853a0dd506f470df2b987136948f37c"
    assert load_neutral("embedded", 256).hash == expected


def test_embedded_development_split_shares_no_document_with_the_test_split():
    test, development = load_neutral("embedded", 256), load_neutral("embedded", 256, skip=256)
    assert (len(test.documents), len(development.documents)) == (256, 64)
    assert len({*test.documents, *development.documents}) == 256 + 64
    assert test.hash != development.hash


def test_no_document_is_refused(neutral_file):
    with pytest.raises(DataError, match=r"neutral\.jsonl': 0 documents were asked for; at least 1 is needed"):
        load_neutral(str(neutral_file), 0)


def test_fault_beyond_the_count_is_found(neutral_file):
    with neutral_file.open("a", encoding="utf-8") as file:
        file.write('\n{"txt": "A sixth line."}\n')
    with pytest.raises(DataError, match=r"neutral\.jsonl:6: 'text' is missing; it must be a non-empty string"):
        load_neutral(str(neutral_file), 1)


def test_file_may_have_further_keys(tmp_path):
    path = tmp_path / "more.jsonl"
    path.write_text('{"id": 1, "text": "Rain."}\n', encoding="utf-8")
    assert load_neutral(str(path), 5).documents == ("Rain.",)


@pytest.mark.parametrize(("name", "near"), [("embeded", "embedded"), ("openwebtex", "openwebtext")])
def test_unknown_set_gives_a_near_match_and_the_other_way_to_name_one(name, near):
    message = rf"unknown neutral set '{name}'\. Did you mean '{near}'\? .*Or give a JSON Lines file"
    with pytest.raises(UnknownNameError, match=message):
        load_neutral(name, 5)


@given(st.lists(st.text(max_size=5), min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_hash_depends_on_the_order_and_not_on_the_name(documents, random):
    shuffled = random.sample(documents, len(documents))
    same = shuffled == documents
    assert (NeutralSet("a", tuple(documents)).hash == NeutralSet("b", tuple(shuffled)).hash) == same


def test_hash_depends_on_where_documents_end():
    assert NeutralSet("a", ("Rain fell.",)).hash != NeutralSet("a", ("Rain", " fell.")).hash


def test_openwebtext_is_streamed_from_the_export_of_the_named_repository(hub):
    neutral = load_neutral("openwebtext", 3)
    assert neutral == NeutralSet("openwebtext", ("Document 0.", "Document 1.", "Document 2."))
    [(args, kwargs)] = hub.calls
    assert args == ("Skylion007/openwebtext",)
    assert kwargs == {"revision": "refs/convert/parquet", "split": "train", "streaming": True}


@pytest.mark.parametrize("count", [1, 256])
def test_openwebtext_is_read_no_further_than_the_count(hub, count):
    assert len(load_neutral("openwebtext", count).documents) == count
    assert hub.given == count


def test_openwebtext_is_skipped_from_its_beginning(hub):
    assert load_neutral("openwebtext", 2, skip=3).documents == ("Document 3.", "Document 4.")
    assert hub.given == 5


def test_openwebtext_that_ends_among_the_skipped_documents_is_refused(hub, monkeypatch):
    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", lambda *_, **__: [{"text": "Document 0."}])
    with pytest.raises(DataError, match="'openwebtext' has 1 documents, and 7 were to be skipped, so none is left"):
        load_neutral("openwebtext", 3, skip=7)


def test_openwebtext_that_cannot_be_read_is_reported_with_reason_and_remedy(hub):
    hub.error = ConnectionError("no route to the hub")
    with pytest.raises(DataError) as caught:
        load_neutral("openwebtext", 3)
    message = str(caught.value)
    assert "'openwebtext' (Skylion007/openwebtext) cannot be read: no route to the hub" in message
    assert re.search(r"--neutral embedded, or give a JSON Lines file", message)
    assert caught.value.__cause__ is hub.error


def test_openwebtext_that_breaks_off_is_reported(hub, monkeypatch):
    def broken(*_, **__):
        yield {"text": "Document 0."}
        raise OSError("connection reset")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", broken)
    with pytest.raises(DataError, match="cannot be read: connection reset"):
        load_neutral("openwebtext", 3)
    assert hub.calls == []


def test_one_document_is_too_few_to_measure_on(neutral_file, concept_directory):
    one = neutral_file.with_name("one.jsonl")
    one.write_text(neutral_file.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    profile = replace(load_profile("embedded"), concept=str(concept_directory), neutral=str(one), toward="positive")
    with pytest.raises(DataError, match=r"'one.jsonl': one document is left; at least 2 are needed"):
        Setting.load(profile)


def test_one_test_pair_is_too_few_to_measure_on(neutral_file, concept_directory):
    pairs = concept_directory / "test.jsonl"
    pairs.write_text(pairs.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    profile = replace(load_profile("embedded"), concept=str(concept_directory), neutral=str(neutral_file))
    with pytest.raises(DataError, match="concept 'royalty' has one test pair; at least 2 are needed"):
        Setting.load(profile)
