"""Briefs, and the prompt that is made of one."""

from __future__ import annotations

import tomllib

import pytest

from steering.concept_writing.briefs import concept_brief
from steering.concept_writing.replies import Story, fault, parse_stories
from steering.errors import DataError
from tests.documents import ROOT, code_blocks

BRIEF = {
    "name": "weddings",
    "description": "Weddings against\n funerals.",
    "positive": "a wedding takes place",
    "negative": "a funeral takes place.",
}
EXAMPLE = {
    "hook": "A bell rang in the valley.",
    "positive": "Soon the bride came by.",
    "negative": "Soon the coffin came by.",
}


def test_prompt_has_the_parts_of_the_papers():
    prompt = concept_brief(BRIEF, "x").prompt(3, [])
    assert "about a contrast: Weddings against funerals. First a story hook" in prompt
    assert "Positive: a wedding takes place. In the continuation called Negative: a funeral takes place." in prompt
    assert "the first word of both continuations is the same" in prompt
    assert prompt.endswith("start with the same word. Write 3 short stories like this.")
    assert "exist already" not in prompt


def test_prompt_shows_an_example_that_can_be_read_back():
    prompt = concept_brief(BRIEF | {"example": EXAMPLE}, "x").prompt(2, ["A cat sat on a mat."])
    assert Story(**EXAMPLE) in parse_stories(prompt)
    assert prompt.endswith("the same word (here: soon). Write 2 short stories like this.")
    assert "exist already:\n- A cat sat on a mat.\n" in prompt


def test_form_in_the_prompt_is_no_story_that_would_be_kept():
    assert all(fault(story) for story in parse_stories(concept_brief(BRIEF, "x").prompt(3, [])))


def test_brief_of_the_documents_can_be_used():
    [toml] = code_blocks(ROOT / "docs" / "concepts.md", "toml")
    brief = concept_brief({"name": "weddings"} | tomllib.loads(toml), "x")
    assert brief.keywords.positive == ("wedding", "bride", "groom")
    assert Story(**vars(brief.example)) in parse_stories(brief.prompt(3, []))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive": None}, "x: missing positive"),
        ({"positive": 3}, "x: positive is 3; it should be a valid string"),
        ({"negative": " "}, "x: negative is empty"),
        ({"positive": "The same.", "negative": "the  same"}, "x: positive and negative are the same, 'The same.'"),
        ({"colour": "red"}, "x: colour is 'red'; Unexpected keyword argument"),
        ({"name": "My weddings"}, "x: name 'My weddings': use lower-case letters, digits, '-' and '_'"),
        ({"rollout_prompts": "Once"}, "x: rollout_prompts is 'Once'; it should be a valid"),
        ({"rollout_prompts": [""]}, "x: a prompt is empty"),
        ({"rollout_prompts": ["a"], "development_prompts": ["a"]}, "x: 'a' is in rollout_prompts and in development"),
        ({"keywords": {"positive": ["bride"]}}, "x: missing keywords.negative"),
        ({"keywords": {"positive": ["a"], "negative": ["A"]}}, "x: keywords: ['a'] stand on both sides"),
        ({"keywords": {"positive": ["a"], "negative": []}}, "x: keywords: the negative side is empty"),
        (
            {"example": EXAMPLE | {"positive": "Later a bride came by."}},
            "x: example: continuations start with different",
        ),
    ],
)
def test_mistake_is_one_message(changes, message):
    table = {key: value for key, value in (BRIEF | changes).items() if value is not None}
    with pytest.raises(DataError) as caught:
        concept_brief(table, "x")
    assert str(caught.value).startswith(message)
