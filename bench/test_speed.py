"""How fast each stage is: against the straightforward way to do it, and against the machine's own ceiling.

`pytest bench/test_speed.py` runs it; `pytest bench` does not. Ratios are of medians within one run. Where a reference
takes hours, a part of it stands for all, which its test says. No time is asserted: machines are noisy, and a table is
printed with the targets. That both ways measure the same is asserted.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import numpy as np
import torch

from bench.reference import Reference
from bench.speed import (
    TOP_P,
    Report,
    Sampled,
    Stage,
    block_operations,
    ceiling,
    documents,
    head_operations,
    intervention,
    prompt,
    report,
    seconds_of,
    stories,
)
from steering.models.batching import length_sorted_batches
from steering.models.continuation_losses import ContinuationLosses
from steering.models.packing import pack
from steering.models.sampling import sample_nucleus, uniform_streams

ROLLOUTS, NEW_TOKENS = 200, 40
CONFIGURATIONS = 8
# Of the layers, every fifth; of 30, their mean is that of all.
FIRST, STEP = 2, 5
MULTIPLIERS = (0.25, 0.5, 0.75, 1.0)
ROUNDS = 3


def test_rollouts(benchmark, model, report, prompt, ceiling):
    """Eight configurations of 200 rollouts × 40 tokens; the reference, one by one, is timed on one of them."""
    layers = np.linspace(1, 28, CONFIGURATIONS).astype(int).tolist()
    interventions = [intervention(model, layer, 1.0) for layer in layers]
    sampled, reference = Sampled(model, prompt, ROLLOUTS, NEW_TOKENS), Reference(model)
    reference.rollouts(prompt, interventions[0], 8, 2, TOP_P)
    work = (ROLLOUTS, NEW_TOKENS, TOP_P)
    alone = [seconds_of(reference.rollouts, prompt, chosen, *work) for chosen in interventions[::3]]
    benchmark.pedantic(sampled, args=(interventions,), rounds=ROUNDS)
    seconds = benchmark.stats.stats.median
    operations = sampled.tokens / ROUNDS * (block_operations(model) * model.layer_count + head_operations(model))
    share = operations / seconds / ceiling.measure()
    add(benchmark, report, Stage("rollouts", seconds, median(alone) * CONFIGURATIONS, "8", share))


def test_rollouts_at_all_positions(benchmark, model, report, prompt):
    """The same work, steered while it is generated, against the prompt alone; at dose 0, so that texts are equal."""
    layers = np.linspace(1, 28, CONFIGURATIONS).astype(int).tolist()
    at_prompt = [intervention(model, layer, 0.0) for layer in layers]
    everywhere = [replace(each, positions="all") for each in at_prompt]
    sampled, expected = Sampled(model, prompt, ROLLOUTS, NEW_TOKENS), []
    alone = seconds_of(lambda: expected.extend(sampled(at_prompt)))
    assert benchmark.pedantic(sampled, args=(everywhere,), rounds=1) == expected
    add(benchmark, report, Stage("all positions", benchmark.stats.stats.median, alone, "-"))


def test_losses(benchmark, model, report, ceiling):
    """Every fifth layer × 4 multipliers on 100 continuations and 64 documents; the reference is timed at two."""
    texts, reference = [*stories(model, "test"), *documents(model, 64)], Reference(model)
    layers = range(FIRST, model.layer_count, STEP)
    interventions = [intervention(model, layer, multiplier) for layer in layers for multiplier in MULTIPLIERS]
    ends = [interventions[0], interventions[-1]]
    reference.losses(texts[:8], ends[0])
    alone = [seconds_of(reference.losses, texts, chosen) for chosen in ends]
    losses = benchmark.pedantic(lambda: ContinuationLosses(model, texts).measure(interventions), rounds=1)
    alone += [seconds_of(reference.losses, texts, chosen) for chosen in ends]
    assert abs(losses[-1].mean() - reference.losses(texts, ends[-1]).mean()) < 0.01
    seconds, count = benchmark.stats.stats.median, len(interventions)
    tokens = pack(texts).ids.numel()  # texts that share a prompt compute it once
    scored = sum(len(text.ids) - text.prompt_length for text in texts)
    blocks = sum(model.layer_count - 1 - each.vector.layer for each in interventions) + max(layers) + 1
    operations = tokens * blocks * block_operations(model) + count * scored * head_operations(model)
    share = operations / seconds / ceiling.measure()
    add(benchmark, report, Stage("losses", seconds, median(alone) * count, "3", share))


def test_capture(benchmark, model, report, ceiling):
    """600 stories at all layers, against plain passes through the blocks in the same batches."""
    rows = [text.ids for text in stories(model, "generation")]
    lengths = [len(row) for row in rows]
    batches = [model.batch([rows[i] for i in batch]) for batch in length_sorted_batches(lengths, model.token_budget)]
    reference, plain = Reference(model), []

    def capture() -> None:
        for _ in model.capture(rows, range(model.layer_count)):
            pass

    def forward() -> None:
        for batch in batches:
            reference.forward(batch)

    reference.forward(batches[0])
    benchmark.pedantic(capture, setup=lambda: plain.append(seconds_of(forward)), rounds=ROUNDS)
    seconds = benchmark.stats.stats.median
    operations = sum(lengths) * block_operations(model) * model.layer_count
    share = operations / seconds / ceiling.measure()
    add(benchmark, report, Stage("capture", seconds, median(plain), "0.87", share))


def test_sampling(benchmark, model, report, prompt):
    """One token for each of 200 rows of the model's own logits, against a sort of the whole vocabulary."""
    ids = torch.tensor([prompt] * 4, device=model.device)
    rows = [prompt + row for row in Sampled(model, prompt, ROLLOUTS, 20)([None])]
    with torch.inference_mode():
        logits = torch.cat([model.module(torch.tensor([row], device=ids.device)).logits[:, -1] for row in rows])
    if logits.device.type == "mps":  # as the model does: it computes no float64
        logits = logits.cpu()
    uniforms = uniform_streams(1, len(rows), 1)[:, 0].to(logits.device)

    def by_sorting() -> torch.Tensor:
        values, tokens = torch.sort(logits.float(), dim=-1, descending=True, stable=True)
        cumulative = values.double().softmax(dim=-1).cumsum(dim=-1)
        size = (cumulative < TOP_P).sum(dim=-1, keepdim=True)
        mass = cumulative.gather(1, size)
        index = torch.searchsorted(cumulative, uniforms.unsqueeze(1) * mass, right=True)
        return tokens.gather(1, torch.minimum(index, size)).squeeze(1)

    sorting = []
    sample = lambda: sample_nucleus(logits, uniforms, TOP_P)  # noqa: E731
    found = benchmark.pedantic(sample, setup=lambda: sorting.append(seconds_of(by_sorting)), rounds=9)
    assert (found == by_sorting()).float().mean() > 0.99
    add(benchmark, report, Stage("sampling", benchmark.stats.stats.median, median(sorting), "-"))


def add(benchmark, report: Report, stage: Stage) -> None:
    """Put a stage into the table and into pytest-benchmark's record."""
    report.stages.append(stage)
    benchmark.extra_info.update(
        reference_seconds=stage.reference, ratio=stage.reference / stage.seconds, share_of_ceiling=stage.share
    )
