"""Completions that a report shows: which, with which keywords, and how much of them."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.concept_files import load_concept
from steering.report.samples import LONGEST, SHOWN, samples_of, segments_of
from steering.report.studies import studies_of
from tests.report_rows import ROLLOUTS, run, unsteered

pytestmark = pytest.mark.usefixtures("without_collection")


@pytest.fixture
def concept(concept_directory):
    return load_concept(str(concept_directory))


def samples(rows, *concepts):
    [study] = studies_of(rows, 0.01, concepts)
    return samples_of(study)


def test_samples_are_the_first_rollouts_of_the_best_cells(concept):
    rows = run(concept=concept.name)
    found = samples(rows, concept)
    assert [name for name, _ in found.columns] == [
        "unsteered",
        "mean_difference, layer 20, ×1",
        "feature_delta, layer 20, ×1",
    ]
    assert [number for number, _, _ in found.lines] == list(range(SHOWN))
    assert [prompt for _, prompt, _ in found.lines[:3]] == ["Once there was", "Long ago lived", "Once there was"]
    by_name = {(row.method, row.layer): row for row in rows if row.metric == "rollout_probability"}
    for column, key in enumerate((("unsteered", None), ("mean_difference", 20), ("feature_delta", 20))):
        for number, _, line in found.lines:
            assert "".join(piece.text for piece in line[column].segments) == by_name[key].texts[number].lstrip()
            marked = [piece.text for piece in line[column].segments if piece.keyword]
            assert marked == (["king"] if by_name[key].items[number] else [])
            assert line[column].succeeded == bool(by_name[key].items[number])


def test_keywords_of_another_concept_of_this_name_are_not_shown(concept):
    rows = [dataclasses.replace(row, texts=tuple(text.replace("king", "lord") for text in row.texts)) for row in run()]
    found = samples(rows, concept)
    assert not found.highlighted
    assert {prompt for _, prompt, _ in found.lines} == {""}


@given(st.text(alphabet="ab <>&\u202e", max_size=40), st.integers(0, 50))
def test_segments_are_the_text_with_its_matches(text, length):
    found = segments_of(text, re.compile("ab+"), length)
    assert "".join(piece.text for piece in found) == text[:length]
    whole = segments_of(text, re.compile("ab+"), 100)
    assert [piece.text for piece in whole if piece.keyword] == re.findall("ab+", text)


def test_long_completions_are_cut():
    long = tuple("x" * (LONGEST + 1) for _ in range(ROLLOUTS))
    [_, _, line] = samples([unsteered(texts=long)]).lines[0]
    assert line[0].shortened
    assert sum(len(piece.text) for piece in line[0].segments) == LONGEST
