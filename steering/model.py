"""A language model that can be read and steered: capture, losses and generation. The only import of nnsight.

Layer k is the output of block k, counted from 0. Interventions are data, one for each row of a batch, so that different
layers, vectors and multipliers can share one. An unsteered row is a row without an intervention, in the same code.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from nnsight import TransformersModel
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steering.batching import distinct_rows, length_sorted_batches, pad_left, pad_right
from steering.checks import check_interventions, check_layers, check_lengths
from steering.edits import Edit, additions, but_first
from steering.errors import NonFiniteError
from steering.families import family
from steering.loading import DtypeName, choose_device, choose_dtype, load_model
from steering.progress import Reporter, Silent
from steering.sampling import Sampler
from steering.tokens import TokenizedText, end_of_text_ids
from steering.vectors import Intervention

_TOKEN_BUDGET = 1024
_REMEDY = "try a smaller multiplier or --dtype float32"


@dataclass(frozen=True)
class CapturedBatch:
    """Residual streams of some texts.

    Attributes:
        rows: Indices of the texts in the call that captured them.
        lengths: Tokens of each text; positions beyond are padding.
        residuals: Layer -> `[row, pos, d_model]` in the model's dtype.
    """

    rows: tuple[int, ...]
    lengths: tuple[int, ...]
    residuals: dict[int, torch.Tensor]


class LanguageModel:
    """A decoder-only language model with its tokenizer.

    Args:
        module: A Hugging Face causal language model, in evaluation mode, on its device.
        tokenizer: A fast tokenizer.
        name: How results call the model.
    """

    def __init__(self, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.name = name
        self.module = module
        self.tokenizer = tokenizer
        self.dtype = module.dtype
        self.device = module.device
        self._traced: Any = TransformersModel(module, tokenizer=tokenizer, task="text-generation")
        self._blocks: Any = self._traced.get(family(module.config.model_type).blocks)
        self._parameters = inspect.signature(module.forward).parameters
        self._pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._end_ids = end_of_text_ids(module, tokenizer)
        self._length_limit = getattr(module.config, "max_position_embeddings", None)

    @classmethod
    def load(cls, reference: str, dtype: DtypeName = "auto", device: str = "auto") -> LanguageModel:
        """Load a model by "embedded", directory, GGUF file or hub id; see `steering.loading.load_model`."""
        place = choose_device(device)
        name, module, tokenizer = load_model(reference, place, choose_dtype(dtype, place))
        return cls(module, tokenizer, name)

    @property
    def layer_count(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.module.config.hidden_size)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights as loaded, with their names."""
        digest = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def capture(
        self, rows: Sequence[Sequence[int]], layers: Sequence[int], progress: Reporter | None = None
    ) -> Iterator[CapturedBatch]:
        """Read the residual stream at several layers in one pass; blocks above the last layer are not run.

        Args:
            rows: Token ids of each text.
            layers: Blocks whose output to read.
            progress: Where to report.

        Yields:
            Batches of texts of similar length, until each text was in one.

        Raises:
            UnknownNameError: The model has no such layer.
            NonFiniteError: An activation is NaN or infinite.
        """
        wanted = sorted(set(layers))
        check_layers(wanted, self.layer_count, self.name)
        check_lengths([len(row) for row in rows], self._length_limit, self.name)
        with (progress or Silent()).work("capturing activations", len(rows)) as advance:
            for batch in length_sorted_batches([len(row) for row in rows], _TOKEN_BUDGET):
                residuals = self._capture_batch([rows[index] for index in batch], wanted)
                yield CapturedBatch(tuple(batch), tuple(len(rows[index]) for index in batch), residuals)
                advance(len(batch))

    @torch.inference_mode()
    def _capture_batch(self, rows: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, torch.Tensor]:
        ids, mask = self._to_device(*pad_right(rows, self._pad_id))
        residuals: dict[int, torch.Tensor] = {}
        with self._traced.trace(input_ids=ids, attention_mask=mask, use_cache=False) as tracer:
            for layer in layers:
                residuals[layer] = self._blocks[layer].output.save()
            tracer.stop()
        for layer, residual in residuals.items():
            if not bool(torch.isfinite(residual[mask.bool()]).all()):
                raise NonFiniteError(f"model {self.name}: the output of block {layer} holds NaN or infinity; {_REMEDY}")
        return residuals

    def losses(
        self,
        texts: Sequence[TokenizedText],
        interventions: Sequence[Intervention | None],
        progress: Reporter | None = None,
    ) -> np.ndarray:
        """Mean cross-entropy of each text's continuation, steered at its prompt positions.

        The first continuation token counts: it is predicted at the last prompt position, which steering reaches most
        directly.

        Args:
            texts: Texts with their prompt boundary.
            interventions: One for each text.
            progress: Where to report.

        Returns:
            Nats per continuation token `[text]`, float64.

        Raises:
            VectorError: A vector does not fit the model.
            NonFiniteError: A loss is NaN or infinite.
        """
        check_interventions(interventions, self.layer_count, self.d_model, self.name)

        def edits(batch: Sequence[int], prompt: torch.Tensor) -> list[Edit]:
            return additions([interventions[row] for row in batch], prompt, self.d_model, self.dtype)

        return self._losses(texts, edits, progress)

    def replaced_losses(
        self,
        texts: Sequence[TokenizedText],
        layer: int,
        replace: Callable[[torch.Tensor], torch.Tensor],
        progress: Reporter | None = None,
    ) -> np.ndarray:
        """Mean cross-entropy as in `losses`, with the output of one block replaced at all positions but the first.

        Args:
            texts: Texts with their prompt boundary.
            layer: The block.
            replace: From `[row, pos, d_model]` to the same shape; the first position keeps what it had, because it is
                an attention sink that nothing trained on activations has seen.
            progress: Where to report.

        Raises:
            UnknownNameError: The model has no such layer.
            NonFiniteError: A loss is NaN or infinite.
        """
        check_layers([layer], self.layer_count, self.name)
        edits = [(layer, but_first(replace))]
        return self._losses(texts, lambda *_: edits, progress)

    def _losses(
        self,
        texts: Sequence[TokenizedText],
        edits: Callable[[Sequence[int], torch.Tensor], list[Edit]],
        progress: Reporter | None,
    ) -> np.ndarray:
        lengths = [len(text.ids) for text in texts]
        check_lengths(lengths, self._length_limit, self.name)
        losses = np.empty(len(texts))
        with (progress or Silent()).work("measuring losses", len(texts)) as advance:
            for batch in length_sorted_batches(lengths, _TOKEN_BUDGET):
                losses[batch] = self._loss_batch([texts[index] for index in batch], partial(edits, batch))
                advance(len(batch))
        if not np.isfinite(losses).all():
            index = int(np.flatnonzero(~np.isfinite(losses))[0])
            raise NonFiniteError(f"model {self.name}: the loss of text {index} is {losses[index]}; {_REMEDY}")
        return losses

    @torch.inference_mode()
    def _loss_batch(self, texts: Sequence[TokenizedText], edits: Callable[[torch.Tensor], list[Edit]]) -> np.ndarray:
        ids, mask = self._to_device(*pad_right([text.ids for text in texts], self._pad_id))
        positions = torch.arange(ids.shape[1], device=self.device)
        prompt_lengths = torch.tensor([text.prompt_length for text in texts], device=self.device).unsqueeze(1)
        output = self._forward(ids, mask, edits(positions < prompt_lengths), use_cache=False)
        scored = (mask.bool() & (positions >= prompt_lengths))[:, 1:]
        logits = output.logits[:, :-1][scored].float()
        token_losses = functional.cross_entropy(logits, ids[:, 1:][scored], reduction="none")
        rows = scored.nonzero()[:, 0].cpu().numpy()
        return np.bincount(rows, token_losses.cpu().double().numpy()) / np.bincount(rows)

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        interventions: Sequence[Intervention | None],
        sampler: Sampler,
        new_tokens: int,
        progress: Reporter | None = None,
    ) -> list[list[int]]:
        """Complete prompts, steering the prompt positions and leaving the generated ones alone.

        The prompts are read once, with their interventions; the cache that this leaves is then decoded by the
        unmodified model.

        Args:
            prompts: Token ids of each row.
            interventions: One for each row.
            sampler: Chooses the tokens.
            new_tokens: How many to generate at most; a row ends early at the end-of-text token.
            progress: Where to report.

        Returns:
            The new token ids of each row, without the end-of-text token.

        Raises:
            VectorError: A vector does not fit the model.
            NonFiniteError: A logit is NaN or infinite.
        """
        check_interventions(interventions, self.layer_count, self.d_model, self.name)
        check_lengths([len(prompt) + new_tokens for prompt in prompts], self._length_limit, self.name)
        pairs = zip(map(tuple, prompts), interventions, strict=True)
        distinct, source = distinct_rows(list(pairs))
        ids, mask = self._to_device(*pad_left([prompts[row] for row in distinct], self._pad_id))
        edits = additions([interventions[row] for row in distinct], mask.bool(), self.d_model, self.dtype)
        output = self._forward(ids, mask, edits, use_cache=True)
        rows = torch.tensor(source, device=self.device)
        cache = output.past_key_values
        cache.batch_select_indices(rows)
        logits, mask = output.logits[rows, -1], mask[rows]
        chosen: list[torch.Tensor] = []
        with (progress or Silent()).work("generating", new_tokens) as advance:
            for step in range(new_tokens):
                chosen.append(sampler.choose(self._finite(logits.float()), step).to(self.device))
                advance()
                if step + 1 == new_tokens:
                    break
                mask = torch.cat([mask, mask.new_ones(len(source), 1)], dim=1)
                inputs = self._inputs(chosen[-1].unsqueeze(1), mask)
                output = self.module(**inputs, past_key_values=cache, use_cache=True)
                logits = output.logits[:, -1]
        return [self._until_end(row) for row in torch.stack(chosen, dim=1).tolist()]

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, edits: Sequence[Edit], *, use_cache: bool) -> Any:
        """Run the model with the outputs of some blocks edited, lowest first."""
        inputs = self._inputs(ids, mask)
        with self._traced.trace(**inputs, use_cache=use_cache):
            for layer, edit in edits:
                self._blocks[layer].output = edit(self._blocks[layer].output)
            output = self._traced.output.save()
        return output  # noqa: RET504 - bound inside the traced block

    def _inputs(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "position_ids" in self._parameters:
            inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return inputs

    def _to_device(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ids.to(self.device), mask.to(self.device)

    def _finite(self, logits: torch.Tensor) -> torch.Tensor:
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):  # the maximum of a row that holds NaN is NaN
            raise NonFiniteError(f"model {self.name}: the logits hold NaN or infinity; {_REMEDY}")
        return logits.cpu() if logits.device.type == "mps" else logits  # samplers compute in float64, MPS does not

    def _until_end(self, row: list[int]) -> list[int]:
        return list(itertools.takewhile(lambda token: token not in self._end_ids, row))
