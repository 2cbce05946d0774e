"""Tokenizers and models that know a chat template."""

from __future__ import annotations

import copy
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from steering.concepts import Concept
from steering.models.language_model import LanguageModel
from tests.small_models import small_model, small_tokenizer

SPLITS = ("generation", "test")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


def rendered(message: str) -> str:
    """What the template makes of a message, without the token that begins a text."""
    return f"<user> {message}\n<assistant>\n"


def in_chat(concept: Concept) -> Concept:
    """The same concept with its prompts read as messages."""
    pairs = {split: tuple(replace(pair, chat=True) for pair in getattr(concept, split)) for split in SPLITS}
    return replace(concept, **pairs)


def chat_tokenizer(template: str = TEMPLATE) -> PreTrainedTokenizerBase:
    """A small tokenizer of its own, with a template."""
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def chat_model(architecture: str = "llama") -> LanguageModel:
    """A small model whose tokenizer has a template."""
    plain = small_model(architecture)
    return LanguageModel(plain.module, chat_tokenizer(), plain.name)
