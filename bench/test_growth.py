"""How cost grows: with configurations, rollouts, blocks above the steered one, and the size of the model.

`pytest bench/test_growth.py` runs it; `pytest bench` does not. It prints a table and asserts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import AutoModelForCausalLM, LlamaConfig

from bench.speed import Report, Sampled, ceiling, documents, intervention, prompt, report, seconds_of
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel


def grow(report: Report, what: str, sizes: Sequence[float], timed: Callable[[float], float]) -> None:
    """Time some sizes; in the table, 1 in the last column is growth in proportion."""
    found = [timed(size) for size in sizes]
    unit = found[0] / sizes[0]
    for size, seconds in zip(sizes, found, strict=True):
        report.growth.append([what, f"{size:g}", f"{seconds:.2f}", f"{seconds / size / unit:.2f}"])


def test_growth_with_configurations(model, report, prompt):
    """200 rollouts × 10 tokens each."""
    sampled = Sampled(model, prompt, 200, 10)
    grow(
        report,
        "configurations",
        (1, 2, 4, 8),
        lambda n: seconds_of(lambda: sampled([intervention(model, 20, 0.1 * i) for i in range(n)])),
    )


def test_growth_with_rollouts(model, report, prompt):
    """Of one configuration, 10 tokens each."""
    grow(
        report,
        "rollouts",
        (50, 100, 200, 400, 800),
        lambda n: seconds_of(lambda: Sampled(model, prompt, n, 10)([None])),
    )


def test_growth_with_layers_above(model, report):
    """Losses of 32 documents, by the number of blocks from the steered one upwards, that one included."""
    losses = ContinuationLosses(model, documents(model, 32))

    def timed(blocks: float) -> float:
        steered = [intervention(model, model.layer_count - int(blocks), 1.0)]
        losses.measure(steered)  # stores the outputs below
        return seconds_of(lambda: losses.measure(steered))

    count = model.layer_count
    grow(report, "blocks above", (count, 2 * count // 3, count // 3, 1), timed)


def test_growth_with_the_size_of_the_model(model, report):
    """Losses of 16 documents under models of random weights, in millions of parameters."""
    texts = documents(model, 16)
    made = [random_model(model, width, blocks) for width, blocks in ((256, 8), (512, 12), (768, 16), (1024, 20))]
    sizes = {sum(p.numel() for p in each.module.parameters()) / 1e6: each for each in made}

    def timed(size: float) -> float:
        losses, steered = ContinuationLosses(sizes[size], texts), [intervention(sizes[size], 0, 1.0)]
        losses.measure(steered)
        return seconds_of(lambda: losses.measure(steered))

    grow(report, "size of the model", list(sizes), timed)


def random_model(model: LanguageModel, width: int, blocks: int) -> LanguageModel:
    """A Llama of some size with random weights."""
    config = LlamaConfig(
        vocab_size=model.module.config.vocab_size,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=blocks,
        num_attention_heads=width // 64,
        tie_word_embeddings=True,
    )
    module = AutoModelForCausalLM.from_config(config).eval().to(model.device, model.dtype)
    return LanguageModel(module, model.tokenizer, f"random-{width}")
