"""Messages and answers in a model's chat template."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steering.concept_files import load_concept
from steering.concepts import ContrastPair
from steering.errors import DataError
from steering.models.tokens import (
    template_hash,
    tokenize_answer,
    tokenize_continuation,
    tokenize_message,
    tokenize_prompt,
    tokenize_prompts,
    tokenize_side,
)
from tests.chat_templates import TEMPLATE, chat_tokenizer, in_chat, rendered
from tests.models.test_tokens import with_template
from tests.small_models import END, small_tokenizer

TOKENIZER = chat_tokenizer()
[FIRST] = TOKENIZER.convert_tokens_to_ids([END])
texts = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40).filter(str.strip)


def decoded(ids):
    return TOKENIZER.decode(list(ids), clean_up_tokenization_spaces=False)


@given(message=texts, answer=texts)
@example("the king", "the queen")
@example("Ein Fähnchen?", "Über Ämter!")
def test_message_and_answer_decode_to_the_template_and_themselves(message, answer):
    text = tokenize_answer(TOKENIZER, message, answer)
    head, rest = text.ids[: text.prompt_length], text.ids[text.prompt_length :]
    assert decoded(head) == END + rendered(message)
    assert decoded(rest) == answer
    assert decoded(tokenize_message(TOKENIZER, message)) == END + rendered(message)


def test_space_that_ends_a_template_is_part_of_the_answer_s_first_word_where_its_token_is():
    spaced = chat_tokenizer(TEMPLATE.replace("<assistant>\n", "<assistant> "))
    for answer, first in (("the queen", " the"), ("Then", "T")):
        text = tokenize_answer(spaced, "Hm", answer)
        assert decoded(text.ids) == f"{END}<user> Hm\n<assistant> {answer}"
        assert decoded(text.ids[text.prompt_length : text.prompt_length + 1]) == first


def test_the_token_that_begins_a_text_is_there_once_whoever_puts_it():
    own = with_template(f"{END} $A")
    assert tokenize_prompt(own, "the king")[0] == FIRST
    own.chat_template = TEMPLATE
    for ids in (tokenize_message(own, "the king"), tokenize_answer(own, "the king", "yes").ids):
        assert list(ids).count(FIRST) == 1
        assert ids[0] == FIRST


def test_tokenizer_without_a_template_is_refused():
    for read in (tokenize_message, lambda tokenizer, text: tokenize_answer(tokenizer, text, "yes")):
        with pytest.raises(DataError, match="the model's tokenizer has no chat template: take a model that has one"):
            read(small_tokenizer(), "the king")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('only system messages are supported') }}", "only system messages are supported"),
        ("{{ 1 // 0 }}", "integer .*division"),
        ("{% for n in range(10 ** 9) %}x{% endfor %}", "Range too big"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_template_that_takes_no_message_of_a_user_says_why(template, reason):
    with pytest.raises(DataError, match=f"takes no message of a user: .*{reason}"):
        tokenize_message(chat_tokenizer(template), "the king")


def test_empty_message_or_answer_is_refused():
    with pytest.raises(DataError, match="a message needs an answer"):
        tokenize_answer(TOKENIZER, "the king", " ")
    for read in (tokenize_message, lambda tokenizer, text: tokenize_answer(tokenizer, text, "yes")):
        with pytest.raises(DataError, match="a message to a chat model is empty"):
            read(TOKENIZER, " ")


def test_templates_that_show_a_date_show_the_same_every_day():
    for date in ("date_string", "strftime_now('%d %b %Y')"):
        dated = chat_tokenizer("{{ " + date + " }}: " + TEMPLATE)
        assert decoded(tokenize_message(dated, "Hm")).startswith("01 Jan 2025: ")
    dated = chat_tokenizer(
        "{%- macro today() %}{{ strftime_now('%Y-%m-%d') }}{%- endmacro %}{{ today() }}: " + TEMPLATE
    )
    assert decoded(tokenize_message(dated, "Hm")).startswith("2025-01-01: ")
    dated = chat_tokenizer("{{ strftime_now('%-d %B %Y, %H:%M') }}: " + TEMPLATE)
    assert decoded(tokenize_message(dated, "Hm")).startswith("1 January 2025, 00:00: ")


@pytest.mark.parametrize("start", ["", "\n", "  \n ", "  {% if true %}\n  a{% endif %}", "{%- set b = 1 %}\n b"])
def test_template_makes_what_it_makes_by_itself(start):
    tokenizer = chat_tokenizer(start + TEMPLATE)
    said = [{"role": "user", "content": "Hm"}]
    alone = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert template_hash(tokenizer) == hashlib.sha256(alone.replace("Hm", "Hello!").encode()).hexdigest()[:12]


def test_hash_is_that_of_the_template():
    assert template_hash(TOKENIZER) == template_hash(chat_tokenizer())
    assert template_hash(TOKENIZER) != template_hash(chat_tokenizer(TEMPLATE.replace("assistant", "model")))


@pytest.mark.parametrize(("chat", "tokenize"), [(False, tokenize_continuation), (True, tokenize_answer)])
def test_pair_says_how_it_is_read(chat, tokenize):
    pair = ContrastPair("a", "the old king", "Yes.", "No.", chat)
    assert tokenize_side(TOKENIZER, pair, "positive") == tokenize(TOKENIZER, "the old king", "Yes.")
    assert tokenize_side(TOKENIZER, pair, "negative") == tokenize(TOKENIZER, "the old king", "No.")


@pytest.mark.parametrize(("chat", "tokenize"), [(False, tokenize_prompt), (True, tokenize_message)])
def test_concept_says_how_its_prompts_are_read(concept_directory, chat, tokenize):
    concept = in_chat(load_concept(str(concept_directory))) if chat else load_concept(str(concept_directory))
    found = tokenize_prompts(TOKENIZER, concept, ["the king", "Hm"])
    assert found == [tokenize(TOKENIZER, "the king"), tokenize(TOKENIZER, "Hm")]
