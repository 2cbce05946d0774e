"""A language model that can be read and steered. The only import of nnsight.

Layer k is the output of block k, counted from 0. Interventions are data, one for each row of a batch, so that different
layers, vectors and multipliers can share one. An unsteered row is a row without an intervention, in the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nnsight import TransformersModel
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from steering.errors import NonFiniteError
from steering.models.attention import use_own_attention
from steering.models.batching import TokenBatch, distinct_rows, length_sorted_batches, pad_left, pad_right
from steering.models.checks import check_interventions, check_layers, check_lengths, check_rows, check_texts
from steering.models.decoding import Ended, Limits, Prefix, Step, decode, filled_up, numbers_of_a_row
from steering.models.edits import Edit, adding, additions
from steering.models.families import family, length_limit
from steering.models.identity import settings_hash, weights_hash
from steering.models.loading import DtypeName, choose_device, choose_dtype, load_model
from steering.models.machine import decoding_bytes, prepare_process, token_budget
from steering.models.outputs import CapturedBatch, StoredOutput
from steering.models.packing import PackedTexts
from steering.models.sampling import Sampler
from steering.models.tokens import end_of_text_ids
from steering.progress import SILENT, Reporter
from steering.vectors import Intervention


class LanguageModel:
    """A decoder-only language model with its tokenizer.

    Args:
        module: A Hugging Face causal language model on its device. It is put into evaluation mode, its attention is
            computed by `steering.models.attention` from now on, and its weights are frozen: nothing here notices a
            later change of them.
        tokenizer: A fast tokenizer.
        name: How results call the model.
    """

    def __init__(self, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.name = name
        self.module: PreTrainedModel = module.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.dtype = module.dtype
        self.device = module.device
        self._traced: Any = TransformersModel(module, tokenizer=tokenizer, task="text-generation")
        self._blocks: Any = self._traced.get(family(module.config.model_type).blocks)
        self._unembedding: Any = self._traced.get(_path_of(module, module.get_output_embeddings()))
        self._end_ids = end_of_text_ids(module, tokenizer)
        self.length_limit = length_limit(module.config)
        use_own_attention(module)

    @classmethod
    def load(cls, reference: str | Path, dtype: DtypeName = "auto", device: str = "auto") -> LanguageModel:
        """Load a model, see `steering.models.loading.load_model`, and prepare the process to compute with it."""
        prepare_process()
        place = choose_device(device)
        name, module, tokenizer = load_model(str(reference), place, choose_dtype(dtype, place))
        return cls(module, tokenizer, name)

    @property
    def layer_count(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.module.config.hidden_size)

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return int(self.module.config.vocab_size)

    @property
    def dtype_name(self) -> str:
        """Of the weights, as results call it: "float32", "bfloat16" or "float16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def remedy(self) -> str:
        """What may help where numbers are NaN or infinite."""
        return "try a smaller multiplier" + (" or --dtype float32" if self.dtype != torch.float32 else "")

    @property
    def token_budget(self) -> int:
        """Tokens of a batch with which the device computes at its full speed, so far as memory holds their logits."""
        return token_budget(self.device, self.dtype, self.vocabulary_size)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights as loaded, with their names."""
        return weights_hash(self.module.state_dict().items())

    @cached_property
    def settings_hash(self) -> str:
        """SHA-256 of the configuration, the tokenizer and the tokens that end a text."""
        return settings_hash(self.module.config, self.tokenizer, self._end_ids)

    def capture(
        self, rows: Sequence[Sequence[int]], layers: Sequence[int], progress: Reporter = SILENT
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
            DataError: A text is empty, longer than the model's context, or holds a token that it does not have.
            NonFiniteError: An activation is NaN or infinite.
        """
        wanted = sorted(set(layers))
        check_layers(wanted, self.layer_count, self.name)
        check_texts(rows, self.vocabulary_size, self.name)
        lengths = [len(row) for row in rows]
        check_lengths(lengths, self.length_limit, self.name)
        with progress.work("capturing activations", len(rows)) as advance:
            for indices in length_sorted_batches(lengths, self.token_budget):
                batch = self.batch([rows[index] for index in indices])
                residuals = self.outputs(batch, wanted)
                for layer, residual in residuals.items():
                    sums = residual.sum(dim=-1, dtype=torch.float32)  # quicker than a look at each number
                    self._require_finite(sums[batch.mask.bool()], f"the output of block {layer} holds")
                yield CapturedBatch(tuple(indices), tuple(lengths[index] for index in indices), residuals)
                advance(len(indices))

    def batch(self, rows: Sequence[Sequence[int]]) -> TokenBatch:
        """Stack token rows on the model's device, padded on the right."""
        return pad_right(rows).to(self.device)

    @torch.inference_mode()
    def outputs(
        self, batch: TokenBatch | PackedTexts, layers: Sequence[int], start: StoredOutput | None = None
    ) -> dict[int, torch.Tensor]:
        """Read the outputs of some blocks.

        Args:
            batch: What to read.
            layers: Blocks, in rising order; those above the last are not run.
            start: The output of a block below all of them, up to which nothing is run.

        Returns:
            Layer -> `[row, pos, d_model]`, of packed texts `[1, token, d_model]`.
        """
        residuals: dict[int, torch.Tensor] = {}
        below = [] if start is None else [start.residual] * (start.layer + 1)
        with self._traced.trace(**batch.inputs, use_cache=False) as tracer:
            for layer, residual in enumerate(below):
                self._blocks[layer].skip(residual)
            for layer in layers:
                residuals[layer] = self._blocks[layer].output.save()
            tracer.stop()
        return residuals

    def logits(self, texts: PackedTexts, wanted: torch.Tensor, start: StoredOutput) -> torch.Tensor:
        """Run the blocks above a stored output; unembed where it is wanted only. Gradients reach the output.

        Args:
            texts: What the output is of.
            wanted: Numbers of tokens.
            start: The output of a block.

        Returns:
            `[wanted, vocab]`.
        """
        with self._traced.trace(**texts.inputs, use_cache=False):
            for layer in range(start.layer + 1):
                self._blocks[layer].skip(start.residual)
            final = self._unembedding.input
            self._unembedding.input = final[:, filled_up(wanted)]
            logits: torch.Tensor = self._traced.output.logits.save()
        return logits[0, : len(wanted)]

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        interventions: Sequence[Intervention | None],
        sampler: Sampler,
        new_tokens: int,
        progress: Reporter = SILENT,
        *,
        ended: Ended = lambda _: False,
    ) -> list[list[int]]:
        """Complete prompts, each with its intervention.

        The prompts are read once. The cache that this leaves is then decoded, by the unmodified model where no
        generated position is steered.

        Args:
            prompts: Token ids of each row.
            interventions: One for each row.
            sampler: Chooses the tokens.
            new_tokens: How many to generate at most; a row ends early at the end-of-text token.
            progress: Where to report.
            ended: Whether a completion, as far as it goes, need not go on.

        Returns:
            The new token ids of each row, without the end-of-text token.

        Raises:
            DataError: There is not one intervention for each prompt, a prompt is empty, too long or no token ids of the
                model, or no token is asked for.
            VectorError: A vector does not fit the model.
            NonFiniteError: A logit is NaN or infinite.
        """
        check_rows(len(prompts), len(interventions), new_tokens)
        check_texts(prompts, self.vocabulary_size, self.name)
        check_interventions(interventions, self.layer_count, self.d_model, self.name)
        longest = max((len(prompt) for prompt in prompts), default=0)
        check_lengths([longest + new_tokens - 1], self.length_limit, self.name)  # the last token is not read
        limits = Limits(new_tokens, self._end_ids, ended)
        chunks = range(0, len(prompts), self.rows_together(longest + new_tokens))
        completions: list[list[int]] = []
        with progress.work("generating", new_tokens * len(chunks)) as advance:
            for first in chunks:
                rows = range(len(prompts))[first : first + chunks.step]
                keys = [(tuple(prompts[row]), interventions[row]) for row in rows]
                distinct, branches = distinct_rows(keys)
                starts = [keys[index] for index in filled_up(torch.tensor(distinct)).tolist()]
                prefix, step = self._prefill(starts, longest), self._decode_step(starts)
                completions += decode(step, prefix, branches, rows, sampler=sampler, limits=limits, advance=advance)
        return completions

    def additions(self, interventions: Sequence[Intervention | None]) -> dict[int, torch.Tensor]:
        """What is added to the model's residual stream, see `steering.models.edits.additions`."""
        return additions(interventions, self.d_model, self.dtype, self.device)

    def rows_together(self, length: int) -> int:
        """How many rows of so many tokens are decoded together, so that their cache and logits fit into memory."""
        bytes_of_a_row = numbers_of_a_row(self.module.config, length) * self.dtype.itemsize
        return max(1, decoding_bytes(self.device) // bytes_of_a_row)

    def _prefill(self, rows: Sequence[tuple[Sequence[int], Intervention | None]], width: int) -> Prefix:
        """Read prompts, padded on the left to a width, each with its intervention."""
        batch = pad_left([prompt for prompt, _ in rows], width).to(self.device)
        edits = adding(self.additions([intervention for _, intervention in rows]), batch.mask.bool())
        output = self._edited(batch.inputs | {"use_cache": True}, edits)
        return Prefix(output.past_key_values, batch.mask, self._sampled(output.logits))

    def _decode_step(self, rows: Sequence[tuple[Sequence[int], Intervention | None]]) -> Step:
        """What continues branches that come from prompts with these interventions."""
        totals = self.additions([each if each is not None and each.is_everywhere else None for _, each in rows])

        def step(ids: torch.Tensor, mask: torch.Tensor, cache: Cache, origins: torch.Tensor) -> torch.Tensor:
            edits = adding({layer: total[origins] for layer, total in totals.items()}, mask[:, -1:].bool())
            inputs = TokenBatch(ids, mask).inputs | {"past_key_values": cache, "use_cache": True}
            output = self._edited(inputs, edits) if edits else self.module(**inputs)
            return self._sampled(output.logits)

        return step

    def _edited(self, inputs: dict[str, Any], edits: Sequence[Edit]) -> Any:
        """What the model makes of inputs, with the logits of the last position alone."""
        with self._traced.trace(**inputs):
            for layer, edit in edits:
                self._blocks[layer].output = edit(self._blocks[layer].output)
            # Contiguous: of a view, torch multiplies each row with a copy of the matrix of its own.
            self._unembedding.input = self._unembedding.input[:, -1:].contiguous()
            output: Any = self._traced.output.save()
        return output

    def _sampled(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the last position `[row, vocab]`, where a sampler can compute."""
        last = logits[:, -1]
        self._require_finite(last.amax(dim=-1), "the logits hold")  # the maximum of a row that holds NaN is NaN
        return last.cpu() if last.device.type == "mps" else last  # samplers compute in float64, MPS does not

    def _require_finite(self, values: torch.Tensor, what: str) -> None:
        if not bool(torch.isfinite(values).all()):
            raise NonFiniteError(f"model {self.name}: {what} NaN or infinity; {self.remedy}")


def _path_of(module: torch.nn.Module, part: torch.nn.Module) -> str:
    return next(str(name) for name, child in module.named_modules() if child is part)
