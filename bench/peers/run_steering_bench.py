"""The process of steering-bench itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from bench.peers.exchange import Findings, Job, probe, serve
from steering.activations import ContrastActivations, capture_pairs
from steering.concepts import ContrastPair
from steering.methods import construct
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.sampling import NucleusSampler, uniform_streams
from steering.models.tokens import TokenizedText, tokenize_prompt
from steering.vectors import Intervention, SteeringVector


def measure(job: Job) -> Findings:
    """Construct the mean difference at every layer, keep what it is made of, then time the sweep."""
    model = LanguageModel.load(job.model, "float32", "cpu")
    activations = _capture(model, job, job.every_layer)
    tensors = _tensors(model, activations, job)
    _rollouts(model, job, [None], new_tokens=2)

    start = time.perf_counter()
    captured = _capture(model, job, job.steered_layers)
    vectors = {layer: _mean_difference(captured, layer) for layer in job.steered_layers}
    constructed = time.perf_counter()
    interventions = [Intervention(vectors[layer], multiplier, "all") for layer, multiplier in job.configurations]
    _rollouts(model, job, interventions, job.new_tokens)
    end = time.perf_counter()
    token_ids = [tokenize_prompt(model.tokenizer, text) for text in job.texts]
    return Findings(tensors, token_ids, constructed - start, end - constructed)


def _capture(model: LanguageModel, job: Job, layers: Sequence[int]) -> ContrastActivations:
    pairs = [
        ContrastPair(str(number), pair.prompt, pair.positive, pair.negative) for number, pair in enumerate(job.pairs)
    ]
    return capture_pairs(model, pairs, layers, "peers")


def _mean_difference(activations: ContrastActivations, layer: int) -> SteeringVector:
    return construct("mean_difference", activations, layer)


@torch.inference_mode()
def _tensors(model: LanguageModel, activations: ContrastActivations, job: Job) -> dict[str, torch.Tensor]:
    """What the other libraries' vectors are compared with.

    "differences" is `[pair, layer, d_model]`; "normed_differences", `[pair, d_model]`, is the same at the last layer
    behind the model's final norm, which is where repeng reads that layer.
    """
    norm = model.module.model.norm
    last = job.layer_count - 1
    positive, negative = activations.at(last)
    text = torch.tensor([tokenize_prompt(model.tokenizer, job.texts[0])])
    return {
        "vectors": torch.stack([_mean_difference(activations, layer).direction for layer in job.every_layer]),
        "logits": model.module(input_ids=text).logits[0, -1],
        "differences": activations.positive - activations.negative,
        "normed_differences": norm(positive) - norm(negative),
        "steered_losses": _steered_losses(model, job),
    }


def _steered_losses(model: LanguageModel, job: Job) -> torch.Tensor:
    text = TokenizedText(tuple(tokenize_prompt(model.tokenizer, job.texts[0])), 1)
    direction = probe(model.d_model)
    steered = [
        Intervention(SteeringVector(direction, layer, "probe", "none", model.name), multiplier, "all")
        for layer, multiplier in job.configurations
    ]
    return torch.from_numpy(ContinuationLosses(model, [text]).measure(steered)[:, 0])


def _rollouts(model: LanguageModel, job: Job, interventions: Sequence[Intervention | None], new_tokens: int) -> None:
    """Sample the rollouts of all configurations in one call; rollout i of each draws the same random numbers."""
    prompt = tokenize_prompt(model.tokenizer, job.prompt)
    rows = [intervention for intervention in interventions for _ in range(job.rollouts)]
    uniforms = uniform_streams(job.seed, job.rollouts, new_tokens)
    model.generate([prompt] * len(rows), rows, NucleusSampler(uniforms, job.top_p, 1.0), new_tokens)


if __name__ == "__main__":
    serve("steering-bench", measure)
