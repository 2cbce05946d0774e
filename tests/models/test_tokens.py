"""The boundary between prompt and continuation, and divided documents."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from steering.errors import DataError
from steering.models.tokens import TokenizedText, text_ids, tokenize_continuation, tokenize_document
from tests.small_models import END, small_tokenizer

texts = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40).filter(str.strip)


def with_post_processor(processor: processors.PostProcessor) -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer.from_str(small_tokenizer().backend_tokenizer.to_str())
    tokenizer.post_processor = processor
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=END)


def with_template(template: str) -> PreTrainedTokenizerBase:
    return with_post_processor(processors.TemplateProcessing(single=template, special_tokens=[(END, 0)]))


def decoded(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


def divided(text: TokenizedText) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return text.ids[: text.prompt_length], text.ids[text.prompt_length :]


@given(prompt=texts, continuation=texts)
@example("the king", "the queen")
@example("Ein Fähnchen", "über Ämter")
@example("ends in spaces  ", "  and begins with them")
@example("🙂", "🙃🙂")
@example("x" * 100, "y")
def test_prompt_and_continuation_decode_to_themselves(prompt, continuation):
    tokenizer = small_tokenizer()
    head, rest = divided(tokenize_continuation(tokenizer, prompt, continuation))
    assert decoded(tokenizer, head) == prompt
    assert decoded(tokenizer, rest) == " " + continuation


def test_the_first_continuation_token_is_that_of_the_context_and_is_scored():
    tokenizer = small_tokenizer()
    text = tokenize_continuation(tokenizer, "Once the", "king rode")
    in_context = tokenizer.convert_tokens_to_ids("Ġking")
    assert in_context not in tokenizer("king rode")["input_ids"]
    assert text.ids[text.prompt_length] == in_context
    assert text.prompt_length == len(tokenizer("Once the")["input_ids"])


def test_a_token_that_reaches_across_the_boundary_belongs_to_the_continuation():
    vocabulary = {"old": 0, "old man": 1, " ": 2, "man": 3, "the ": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, " "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("the ", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert tokenize_continuation(fast, "the old", "man") == TokenizedText((4, 1), 1)


def test_a_space_with_a_token_of_its_own_belongs_to_the_continuation():
    tokenizer = small_tokenizer()
    head, rest = divided(tokenize_continuation(tokenizer, "A", "7"))
    assert tokenizer.convert_ids_to_tokens(list(head)) == ["A"]
    assert tokenizer.convert_ids_to_tokens(list(rest)) == ["Ġ", "7"]


def test_offsets_that_leave_the_leading_space_out_keep_the_boundary():
    trimmed = with_post_processor(processors.ByteLevel(trim_offsets=True))
    encoding = trimmed("the king", return_offsets_mapping=True)
    assert encoding["offset_mapping"][-1] == (4, 8)
    for prompt, continuation in (("the", "king"), ("A", "7"), ("é", "é the")):
        plain = tokenize_continuation(small_tokenizer(), prompt, continuation)
        assert tokenize_continuation(trimmed, prompt, continuation) == plain


@pytest.mark.parametrize("prompt", ["the", "a the king"])
def test_a_tokenizer_that_writes_spaces_as_underlines_keeps_the_boundary(prompt):
    vocabulary = {token: index for index, token in enumerate(["?", "▁a", "▁the", "▁king", "▁queen"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    text = tokenize_continuation(PreTrainedTokenizerFast(tokenizer_object=tokenizer), prompt, "queen the")
    head, rest = divided(text)
    assert list(head) == [vocabulary[f"▁{word}"] for word in prompt.split()]
    assert list(rest) == [vocabulary["▁queen"], vocabulary["▁the"]]


@pytest.mark.parametrize(("template", "front"), [(f"{END} $A", 1), (f"$A {END}", 0), (f"{END} {END} $A {END}", 2)])
@pytest.mark.parametrize(("prompt", "continuation"), [("the king", "saw the queen."), ("é", "é"), ("A", "the")])
def test_tokens_put_around_a_text_keep_the_boundary(template, front, prompt, continuation):
    tokenizer = with_template(template)
    assert tokenizer("a")["input_ids"].count(0) == template.count(END)
    plain = tokenize_continuation(small_tokenizer(), prompt, continuation)
    found = tokenize_continuation(tokenizer, prompt, continuation)
    assert found == TokenizedText((0,) * front + plain.ids, front + plain.prompt_length)


def test_an_end_token_written_in_the_text_is_text():
    text = tokenize_continuation(small_tokenizer(), "the", f"king{END}")
    assert text.ids[-1] == small_tokenizer().eos_token_id
    assert len(text.ids) - text.prompt_length == 2


@pytest.mark.parametrize(("prompt", "continuation"), [("", "the king"), ("", "")])
def test_a_text_without_a_prompt_is_refused(prompt, continuation):
    with pytest.raises(DataError, match="a text needs a prompt and a continuation, found ''"):
        tokenize_continuation(small_tokenizer(), prompt, continuation)


def test_a_text_without_a_continuation_is_refused():
    with pytest.raises(DataError, match="needs a prompt and a continuation, found 'the king' and ''"):
        tokenize_continuation(small_tokenizer(), "the king", "")


@pytest.mark.parametrize(("count", "prompt_length"), [(3, 3), (3, 0), (3, 4), (3, -1), (1, 0), (1, 1), (0, 0)])
def test_a_boundary_at_or_beyond_an_end_is_refused(count, prompt_length):
    with pytest.raises(DataError, match=rf"{count} tokens with {prompt_length} prompt tokens.*at least one"):
        TokenizedText(tuple(range(count)), prompt_length)


@given(count=st.integers(2, 60), prompt_tokens=st.integers(1, 20), continuation_tokens=st.integers(1, 20))
@example(9, 8, 5)
@example(8, 8, 5)
@example(2, 8, 5)
def test_a_document_is_cut_after_its_prompt_or_in_the_middle(count, prompt_tokens, continuation_tokens):
    letters = ("abcdefghij" * 6)[:count]
    whole = small_tokenizer()(letters)["input_ids"]
    assert len(whole) == count
    found = tokenize_document(small_tokenizer(), letters, prompt_tokens, continuation_tokens)
    assert list(found.ids) == whole[: prompt_tokens + continuation_tokens]
    assert found.prompt_length == (prompt_tokens if count > prompt_tokens else count // 2)


@pytest.mark.parametrize(("document", "count"), [("", 0), ("Z", 1), (" king", 1)])
def test_a_document_too_short_to_divide_is_refused(document, count):
    with pytest.raises(DataError, match=rf"'{document}' has {count} tokens; at least 2"):
        tokenize_document(small_tokenizer(), document, 8, 8)


def test_a_document_loses_the_token_that_closes_a_sequence():
    closing, plain = with_template("$A <end>"), small_tokenizer()
    assert closing("abcd")["input_ids"] != plain("abcd")["input_ids"]
    assert tokenize_document(closing, "abcd", 8, 8).ids == tokenize_document(plain, "abcd", 8, 8).ids
    assert text_ids(closing, "abcd") == text_ids(plain, "abcd") == plain("abcd")["input_ids"]
