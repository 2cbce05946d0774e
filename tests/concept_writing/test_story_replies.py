"""Stories are found in what chat models write around them, and faults are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.concept_writing.replies import Story, fault, parse_stories

GOOD = Story("A bell rang in the valley.", "Soon the king came by.", "Soon the queen came by.")


def test_plain_form_is_read():
    text = (
        "Hook:\nA bell rang in\nthe valley.\n\nPositive:\nSoon the king came by.\n\nNegative:\nSoon the queen came by."
    )
    assert parse_stories(text) == [GOOD]


HOOK, POSITIVE, NEGATIVE = vars(GOOD).values()


@pytest.mark.parametrize(
    "text",
    [
        f"Hook: {HOOK}\nPositive: {POSITIVE}\nNegative: {NEGATIVE}",
        f"**Hook:** {HOOK}\n**Positive:** {POSITIVE}\n**Negative**: {NEGATIVE}",
        (
            f"### Story 1\n\n1. **Hook:**\n{HOOK}\n\n2. **Positive continuation:**\n…{POSITIVE}\n\n"
            f"3. **Negative:**\n...{NEGATIVE}\n\nI hope you like it!"
        ),
        f'> HOOK: “{HOOK}”\n\n> POSITIVE: "{POSITIVE}"\n\n> NEGATIVE: *{NEGATIVE}*',
        f"Sure!\r\n\r\nHook:\r\n{HOOK}\r\n\r\nPositive:\r\n\r\n{POSITIVE}\r\n\r\nNegative:\r\n{NEGATIVE}\r\n",
    ],
)
def test_forms_that_models_use_are_read(text):
    assert parse_stories(text) == [GOOD]


def test_several_stories_are_told_apart_and_a_cut_one_lacks_a_part():
    text = "Hook: One.\nPositive: Two.\nNegative: Three.\n\nHook: Four.\nPositive: Fi"
    assert parse_stories(text) == [Story("One.", "Two.", "Three."), Story("Four.", "Fi", "")]


def test_label_that_comes_again_begins_another_story():
    assert parse_stories("Hook: One.\nPositive: Two.\nPositive: Three.") == [
        Story("One.", "Two."),
        Story("", "Three."),
    ]


def test_quotation_marks_within_a_sentence_stay():
    [story] = parse_stories('Hook: "Go," she said, "now."')
    assert story.hook == '"Go," she said, "now."'


@pytest.mark.parametrize("text", ["", "I cannot help with that.", "First, the hook of it", '{"hook": "x"}'])
def test_other_text_holds_no_story(text):
    assert parse_stories(text) == []


@given(st.text())
def test_any_text_can_be_read(text):
    for story in parse_stories(text):
        assert isinstance(fault(story), str)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"positive": "SOON, the king came by."}, ""),
        ({"hook": ""}, "hook: missing"),
        ({"negative": ""}, "negative: missing"),
        ({"hook": "A bell rang."}, "hook: has fewer than 4 or more than 60 words"),
        ({"positive": "Soon " + "very " * 60 + "late."}, "positive: has fewer than 4 or more than 60 words"),
        ({"positive": "Soon the king came by. He slept."}, "positive: is not one sentence"),
        ({"positive": "Soon the king came by and"}, "positive: is not one sentence"),
        ({"hook": "A bell rang\x1b in the valley."}, "hook: holds control characters"),
        ({"hook": "A bell rang \ud800 in the valley."}, "hook: holds control characters"),
        ({"positive": "Later the king came by."}, "continuations start with different words"),
        ({"positive": "Soon the QUEEN came by!"}, "continuations are the same"),
    ],
)
def test_faults_of_a_story_are_named(changes, reason):
    assert fault(Story(**(vars(GOOD) | changes))) == reason
