"""The straightforward way to measure steering, which the benchmark of speed is held against.

One configuration after another: nnsight's `generate` with an intervention, and a full forward pass for each batch of
texts, as the paper's code and steering libraries do it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from nnsight import TransformersModel
from torch.nn import functional

from steering.models.batching import TokenBatch, pad_right
from steering.models.families import family
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText
from steering.vectors import Intervention

# Texts of a batch, in the order in which they come; Hugging Face's trainer takes 8.
_BATCH = 8


class Reference:
    """Measures one configuration at a time.

    Args:
        model: Its module is used as transformers makes it, with PyTorch's attention kernel.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._traced = TransformersModel(model.module, tokenizer=model.tokenizer, task="text-generation")
        self._blocks = self._traced.get(family(model.module.config.model_type).blocks)

    @contextmanager
    def _as_made(self) -> Iterator[None]:
        module = self._model.module
        own = module.config._attn_implementation  # noqa: SLF001 - its only name
        module.set_attn_implementation("sdpa")
        try:
            yield
        finally:
            module.set_attn_implementation(own)

    def rollouts(
        self, prompt: Sequence[int], intervention: Intervention, count: int, new_tokens: int, top_p: float
    ) -> torch.Tensor:
        """Sample completions of a prompt; `[row, pos]`, the prompt included."""
        ids = torch.tensor([list(prompt)] * count, device=self._model.device)
        addition = intervention.addition.to(ids.device, self._model.dtype)
        layer = intervention.vector.layer
        settings = {"max_new_tokens": new_tokens, "do_sample": True, "top_p": top_p, "top_k": 0, "temperature": 1.0}
        with self._as_made(), torch.inference_mode(), self._traced.generate(ids, **settings) as tracer:
            # Without an iterator, an edit reaches the first forward pass alone, which is the prompt's.
            self._blocks[layer].output = self._blocks[layer].output + addition
            result = tracer.result.save()
        return result  # noqa: RET504 - bound inside the traced block

    def losses(self, texts: Sequence[TokenizedText], intervention: Intervention) -> np.ndarray:
        """Loss of each text's continuation, from full logits."""
        losses = []
        with self._as_made():
            for first in range(0, len(texts), _BATCH):
                losses += self._loss_batch(texts[first : first + _BATCH], intervention)
        return np.array(losses)

    def _loss_batch(self, texts: Sequence[TokenizedText], intervention: Intervention) -> list[float]:
        batch = pad_right([text.ids for text in texts]).to(self._model.device)
        layer, addition = intervention.vector.layer, intervention.addition.to(batch.ids.device, self._model.dtype)
        positions = torch.arange(batch.ids.shape[1], device=batch.ids.device)
        lengths = torch.tensor([text.prompt_length for text in texts], device=batch.ids.device).unsqueeze(1)
        prompt = (positions < lengths).unsqueeze(2)
        with (
            torch.inference_mode(),
            self._traced.trace(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False),
        ):
            self._blocks[layer].output = self._blocks[layer].output + addition * prompt
            logits = self._traced.output.logits.save()
        losses = []
        for row, text in enumerate(texts):
            scored = slice(text.prompt_length - 1, len(text.ids) - 1)
            targets = batch.ids[row, text.prompt_length : len(text.ids)]
            losses.append(float(functional.cross_entropy(logits[row, scored].float(), targets)))
        return losses

    @torch.inference_mode()
    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """One plain pass through the blocks, without logits."""
        with self._as_made():
            output = self._model.module.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        return output.last_hidden_state
