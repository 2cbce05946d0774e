"""Two-block models of several architectures and a byte-level tokenizer, built in memory."""

from __future__ import annotations

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from steering.models.language_model import LanguageModel

END = "<end>"
WORDS = ["Ġthe", "Ġman", "Ġwoman", "Ġking", "Ġqueen", "Ġboy", "Ġgirl", "Ġstory"]
_SHARED = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "bos_token_id": 0, "eos_token_id": 0}
_WIDE = {**_SHARED, "intermediate_size": 64}

CONFIGS: dict[str, tuple[type[PretrainedConfig], dict[str, object]]] = {
    "gpt2": (GPT2Config, {"n_layer": 2, "n_embd": 32, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}),
    "llama": (LlamaConfig, {**_WIDE, "num_key_value_heads": 1}),
    "gpt_neox": (GPTNeoXConfig, _WIDE),
    "opt": (OPTConfig, {**_SHARED, "ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 0}),
    "gemma": (GemmaConfig, {**_WIDE, "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0}),
    "gemma2": (
        Gemma2Config,
        {**_WIDE, "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0, "sliding_window": 4},
    ),
    "gemma3_text": (
        Gemma3TextConfig,
        {**_WIDE, "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0, "sliding_window": 4},
    ),
    "mistral": (MistralConfig, {**_WIDE, "num_key_value_heads": 1, "sliding_window": 4}),
    "qwen2": (Qwen2Config, {**_WIDE, "num_key_value_heads": 1}),
    "qwen3": (Qwen3Config, {**_WIDE, "num_key_value_heads": 1, "head_dim": 16}),
    "phi": (PhiConfig, _WIDE),
    "phi3": (Phi3Config, {**_WIDE, "pad_token_id": 0}),
}
ARCHITECTURES = ("gpt2", "llama", "gpt_neox", "opt")


@functools.cache
def small_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level tokenizer: every text has tokens and offsets; a few whole words have a token of their own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([END, *alphabet])}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=END)


def small_module(architecture: str, seed: int = 0) -> torch.nn.Module:
    """A seeded two-block model in float32; weights are larger than usual, so that logits differ visibly."""
    config_class, settings = CONFIGS[architecture]
    config = config_class(vocab_size=len(small_tokenizer()), **settings)
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    module = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    torch.random.set_rng_state(generator_state)
    return module


def small_model(architecture: str, seed: int = 0) -> LanguageModel:
    """The same, ready to be steered."""
    return LanguageModel(small_module(architecture, seed), small_tokenizer(), f"small-{architecture}")
