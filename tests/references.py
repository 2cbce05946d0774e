"""Independent ways to compute what a steered model computes: plain forward hooks, no nnsight, no cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch.nn import functional

from steering.models.families import family
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText, tokenize_continuation
from steering.positions import Positions
from steering.vectors import Intervention, SteeringVector

PROMPTS = ["the king", "Once upon a time the queen", "A"]
TEXTS = [
    ("The old", "man saw the king."),
    ("Long ago there was a", "girl."),
    ("Hm,", "the story of the queen and the boy."),
]


def steering_vector(model: LanguageModel, layer: int, seed: int = 0) -> SteeringVector:
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))
    return SteeringVector(direction, layer, "test", "none", model.name)


def steer(
    model: LanguageModel, layer: int, multiplier: float, seed: int = 0, positions: Positions = "prompt"
) -> Intervention:
    return Intervention(steering_vector(model, layer, seed), multiplier, positions)


def towards(model: LanguageModel, word: str, multiplier: float, layer: int = 1) -> Intervention:
    """Raises one token's logit: its vector is the row of the output embedding."""
    [token] = model.tokenizer.encode(word)
    row = model.module.get_output_embeddings().weight[token].detach().clone()
    return Intervention(SteeringVector(row / row.norm(), layer, "planted", "none", model.name), multiplier)


def tokenized(model: LanguageModel) -> list[TokenizedText]:
    return [tokenize_continuation(model.tokenizer, prompt, rest) for prompt, rest in TEXTS]


def prompt_ids(model: LanguageModel) -> list[list[int]]:
    return [model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]


def blocks_of(model: LanguageModel) -> torch.nn.ModuleList:
    return model.module.get_submodule(family(model.module.config.model_type).blocks)


class Changed:
    """Changes the output of a block by a forward hook."""

    def __init__(self, model: LanguageModel, layer: int, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._block, self._change = blocks_of(model)[layer], change

    def __enter__(self) -> Self:
        self._handle = self._block.register_forward_hook(lambda _module, _inputs, output: self._change(output.clone()))
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


class Captured(Changed):
    """Keeps the output of a block in `output`."""

    def __init__(self, model: LanguageModel, layer: int) -> None:
        def keep(output: torch.Tensor) -> torch.Tensor:
            self.output = output
            return output

        super().__init__(model, layer, keep)


class Hooked(Changed):
    """Adds a steering vector at the prompt's positions or at all, or does nothing."""

    def __init__(self, model: LanguageModel, steered: Intervention | None, prompt_length: int) -> None:
        def add(output: torch.Tensor) -> torch.Tensor:
            if steered is not None:
                output[:, : prompt_length if steered.positions == "prompt" else None] += steered.addition
            return output

        super().__init__(model, 0 if steered is None else steered.vector.layer, add)


def continuation_loss(model: LanguageModel, text: TokenizedText) -> float:
    """Loss of a text run alone."""
    ids = torch.tensor([text.ids])
    with torch.no_grad():
        logits = model.module(ids).logits
    start = text.prompt_length
    return float(functional.cross_entropy(logits[0, start - 1 : -1], ids[0, start:]))


def reference_loss(model: LanguageModel, text: TokenizedText, steered: Intervention | None) -> float:
    with Hooked(model, steered, text.prompt_length):
        return continuation_loss(model, text)


def reference_greedy(model: LanguageModel, prompt: list[int], steered: Intervention | None, count: int) -> list[int]:
    """Recompute the whole sequence at every step, steered each time: no cache."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad(), Hooked(model, steered, len(prompt)):
            logits = model.module(torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    new = ids[len(prompt) :]
    return new[: new.index(0)] if 0 in new else new


@dataclass(frozen=True)
class Scripted:
    """A sampler that chooses given tokens `[row, step]`, whatever the logits."""

    tokens: torch.Tensor

    def choose(self, logits: torch.Tensor, branches: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        del logits, branches
        return self.tokens[rows, step]
