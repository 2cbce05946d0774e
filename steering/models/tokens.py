"""Texts as token ids, with the boundary between prompt and continuation, or between a message and its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steering.concepts import Concept, ContrastPair, Side
from steering.errors import DataError

# What templates that show a date are given, so that a run says the same tomorrow. Those that ask for the time get this
# day's, from what is put before them: transformers takes text alone in the place of its clock.
_DAY = datetime(2025, 1, 1)  # noqa: DTZ001 - nobody's time zone
_SHOWN = {each: _DAY.strftime(f"%{each}") for each in "aAbBdHIjmMpSyY"}
_DIRECTIVES = {f"%-{each}": shown.lstrip("0") or "0" for each, shown in _SHOWN.items()} | {
    f"%{each}": shown for each, shown in _SHOWN.items()
}
_REPLACED = "".join(f"|replace('{directive}', '{shown}')" for directive, shown in _DIRECTIVES.items())
_CLOCK = f"{{%- macro strftime_now(format) %}}{{{{ format{_REPLACED} }}}}{{%- endmacro %}}\n"


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of a whole text.

    Attributes:
        ids: Prompt and continuation.
        prompt_length: How many of `ids` belong to the prompt (a token that a tokenizer puts in front included).
    """

    ids: tuple[int, ...]
    prompt_length: int

    def __post_init__(self) -> None:
        """Refuse a text without a prompt token or without a continuation token."""
        if not 0 < self.prompt_length < len(self.ids):
            raise DataError(
                f"a text of {len(self.ids)} tokens with {self.prompt_length} prompt tokens: "
                "both the prompt and the continuation need at least one"
            )


def tokenize_continuation(tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str) -> TokenizedText:
    """Tokenize `prompt + " " + continuation` as one text and find where the continuation begins.

    The boundary comes from character offsets, because a continuation tokenized alone can give other tokens than it
    has in its context. A token that reaches beyond the prompt's last character belongs to the continuation.

    Raises:
        DataError: One side is empty.
    """
    if not prompt.strip() or not continuation.strip():
        raise DataError(f"a text needs a prompt and a continuation, found {prompt!r} and {continuation!r}")
    return _divided(*_tokens_of_text(tokenizer, f"{prompt} {continuation}"), len(prompt))


def tokenize_answer(tokenizer: PreTrainedTokenizerBase, message: str, answer: str) -> TokenizedText:
    """Tokenize a user's message in the chat template, as the prompt, and the beginning of an answer to it.

    Raises:
        DataError: One side is empty, or there is no template that takes the message.
    """
    if not answer.strip():
        raise DataError(f"a message needs an answer, found {message!r} and {answer!r}")
    opening = _opening(tokenizer, message)
    return _divided(*_tokens_of_text(tokenizer, opening + answer, is_whole=True), len(opening))


def tokenize_side(tokenizer: PreTrainedTokenizerBase, pair: ContrastPair, side: Side) -> TokenizedText:
    """Tokenize a pair's prompt with one of its continuations: as one text, or as message and answer."""
    tokenize = tokenize_answer if pair.chat else tokenize_continuation
    return tokenize(tokenizer, pair.prompt, getattr(pair, side))


def _divided(ids: Sequence[int], ends: Sequence[int], length: int) -> TokenizedText:
    """A text whose prompt is so many characters long."""
    return TokenizedText(tuple(ids), next((index for index, end in enumerate(ends) if end > length), len(ids)))


def tokenize_document(
    tokenizer: PreTrainedTokenizerBase, text: str, prompt_tokens: int, continuation_tokens: int
) -> TokenizedText:
    """Take a document's first tokens as the prompt and those that follow as the continuation.

    A document with fewer than `prompt_tokens` + 1 tokens is divided in the middle.

    Raises:
        DataError: The document has fewer than two tokens.
    """
    ids = tuple(text_ids(tokenizer, text)[: prompt_tokens + continuation_tokens])
    if len(ids) < 2:
        raise DataError(f"neutral document {text[:40]!r} has {len(ids)} tokens; at least 2 are needed")
    return TokenizedText(ids, prompt_tokens if len(ids) > prompt_tokens else len(ids) // 2)


def tokenize_documents(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], prompt_tokens: int, continuation_tokens: int
) -> list[TokenizedText]:
    """`tokenize_document` for each of some documents."""
    return [tokenize_document(tokenizer, text, prompt_tokens, continuation_tokens) for text in texts]


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that is only read, however long; a token that closes a sequence is left out."""
    return _tokens_of_text(tokenizer, text)[0]


def tokenize_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of a text that is to be completed.

    Raises:
        DataError: The prompt has no token.
    """
    ids = text_ids(tokenizer, prompt)
    if not ids:
        raise DataError(f"prompt {prompt!r} has no token")
    return ids


def tokenize_message(tokenizer: PreTrainedTokenizerBase, message: str) -> list[int]:
    """Token ids of a user's message in the chat template, up to where the model begins its answer.

    Raises:
        DataError: There is no template that takes the message.
    """
    return _tokens_of_text(tokenizer, _opening(tokenizer, message), is_whole=True)[0]


def tokenize_prompts(tokenizer: PreTrainedTokenizerBase, concept: Concept, prompts: Iterable[str]) -> list[list[int]]:
    """Token ids of some prompts of a concept, which are texts or messages."""
    tokenize = tokenize_message if concept.chat else tokenize_prompt
    return [tokenize(tokenizer, prompt) for prompt in prompts]


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """First twelve digits of the SHA-256 of what the chat template makes of a message.

    Raises:
        DataError: There is none that takes it.
    """
    return hashlib.sha256(_opening(tokenizer, "Hello!").encode()).hexdigest()[:12]


def _opening(tokenizer: PreTrainedTokenizerBase, message: str) -> str:
    """A conversation up to where the model begins its answer to a user's message."""
    if not message.strip():
        raise DataError("a message to a chat model is empty")
    if not tokenizer.chat_template:
        raise DataError(
            "prompts are to be messages to a chat model (`chat = true` in concept.toml, or --chat), and the model's "
            "tokenizer has no chat template: take a model that has one"
        )
    said = [{"role": "user", "content": message}]
    try:
        whole = tokenizer.apply_chat_template(
            said,
            tokenize=False,
            add_generation_prompt=True,
            date_string=_DAY.strftime("%d %b %Y"),
            chat_template=_CLOCK + tokenizer.get_chat_template(),
        )
    except Exception as error:  # noqa: BLE001 - a template is a program, of whoever made the model
        raise DataError(f"the model's chat template takes no message of a user: {error}") from None
    return str(whole)


def completed_text(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], completion: Sequence[int]
) -> tuple[str, int]:
    """Text of a prompt with its completion, and the character at which the completion begins.

    A completion decoded alone would not show whether it goes on with the prompt's last word: "fire" and "man" give
    "fireman".
    """
    return text_of(tokenizer, [*prompt, *completion]), len(text_of(tokenizer, prompt))


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of tokens; no space is cleaned up, so that the text of more tokens begins with that of fewer."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _tokens_of_text(
    tokenizer: PreTrainedTokenizerBase, text: str, *, is_whole: bool = False
) -> tuple[list[int], list[int]]:
    """Token ids, and the character at which each ends; a token that closes a sequence is left out: it is no text.

    A text that is whole has the token that begins a sequence, where the model wants one: a template puts it there.
    """
    # Not verbose: a text that is too long for the model is cut by what calls this, or refused.
    encoding = tokenizer(text, return_offsets_mapping=True, verbose=False, add_special_tokens=not is_whole)
    ids, ends = list(encoding["input_ids"]), [end for _, end in encoding["offset_mapping"]]
    while ends and ends[-1] == 0:
        ends.pop()
        ids.pop()
    return ids, ends


def end_of_text_ids(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that ends a text: the tokenizer's, and those of the model's generation settings."""
    configured = module.generation_config.eos_token_id if module.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    return {token for token in (tokenizer.eos_token_id, *listed) if token is not None}
