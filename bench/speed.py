"""What the benchmarks of speed share: the work that they time, and the tables that they fill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
import torch
from torch.nn import functional

from steering import load_concept
from steering.keywords import keyword_pattern
from steering.metrics.rollouts import is_confirmed
from steering.models.families import family
from steering.models.language_model import LanguageModel
from steering.models.sampling import NucleusSampler, uniform_streams
from steering.models.tokens import TokenizedText, text_of, tokenize_continuation, tokenize_document, tokenize_prompt
from steering.neutral import load_neutral
from steering.tables.terminal import aligned
from steering.vectors import Intervention, SteeringVector

CONCEPT = load_concept("gender")
TOP_P = 0.8
# Of the square matrices whose product is timed.
_WIDTHS = (512, 1024, 2048)
_WARM_UPS, _REPEATS = 3, 15


@dataclass(frozen=True)
class Stage:
    """A line of the table."""

    name: str
    seconds: float
    reference: float
    target: str
    share: float | None = None

    @property
    def cells(self) -> list[str]:
        """Formatted."""
        share = "-" if self.share is None else f"{self.share:.0%}"
        ratio = f"{self.reference / self.seconds:.2f}"
        return [self.name, f"{self.seconds:.3g}", f"{self.reference:.3g}", ratio, self.target, share]


class Ceiling:
    """The fastest matrix product that was seen; the speed of a shared machine changes within minutes."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._fastest = 0.0

    def measure(self) -> float:
        """Measure again; the fastest so far, in operations per second."""
        found = matrix_product_ceiling(self._model.dtype, self._model.device)
        self._fastest = max(self._fastest, found)
        return self._fastest


class Report:
    """Collects what the tests measure, and shows it at the end."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.growth: list[list[str]] = []

    def tables(self) -> Iterator[list[list[str]]]:
        """The tables that have lines."""
        if self.stages:
            header = ["stage", "seconds", "reference", "reference / own", "target", "of the ceiling"]
            yield [header, *(stage.cells for stage in self.stages)]
        if self.growth:
            yield [["what grows", "size", "seconds", "of the first, per size"], *self.growth]


def finish_computing() -> None:
    """Wait until an accelerator has done what it was given: its work goes on after a call has returned."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def matrix_product_ceiling(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the fastest matrix product of the machine, in floating-point operations per second.

    It is what a model's speed is held against: the largest of several sizes, each the median of repeated products.
    """
    return max(_product_speed(dtype, device, width) for width in _WIDTHS)


def _product_speed(dtype: torch.dtype, device: torch.device, width: int) -> float:
    left, right = (torch.full((width, width), 0.5, dtype=dtype, device=device) for _ in range(2))
    seconds = []
    for _ in range(_REPEATS + _WARM_UPS):
        started = time.perf_counter()
        functional.linear(left, right)
        finish_computing()
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / median(seconds[_WARM_UPS:])


def seconds_of(work: Callable[..., object], *arguments: Any) -> float:
    """Wall time of one call, and of what an accelerator goes on to do after it."""
    finish_computing()
    started = time.perf_counter()
    work(*arguments)
    finish_computing()
    return time.perf_counter() - started


def intervention(model: LanguageModel, layer: int, multiplier: float) -> Intervention:
    """A vector of about the mean difference's effect: what it means is of no account here."""
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(layer))
    return Intervention(SteeringVector(direction, layer, "random", "none", model.name), multiplier)


def block_operations(model: LanguageModel) -> float:
    """Operations of one block's matrix products for one token; attention's own are left out."""
    module = model.module
    blocks = module.get_submodule(family(module.config.model_type).blocks)
    return 2 * sum(weights.numel() for weights in blocks.parameters() if weights.ndim == 2) / model.layer_count


def head_operations(model: LanguageModel) -> float:
    """Operations of the unembedding for one token."""
    return 2.0 * model.d_model * model.module.config.vocab_size


class Sampled:
    """Samples rollouts of configurations, as the metric does, and counts what the model computes.

    Attributes:
        tokens: How many were computed so far: rows that are alike count once, and rows leave.
    """

    def __init__(self, model: LanguageModel, prompt: list[int], rollouts: int, new_tokens: int) -> None:
        self.tokens = 0
        self._model, self._prompt = model, prompt
        self._rollouts, self._new_tokens = rollouts, new_tokens
        self._sampler = NucleusSampler(uniform_streams(0, rollouts, new_tokens), TOP_P, 1.0)
        self._pattern = keyword_pattern(CONCEPT.keywords.positive)

    def __call__(self, interventions: Sequence[Intervention | None]) -> list[list[int]]:
        """All configurations in one call."""
        rows = [each for each in interventions for _ in range(self._rollouts)]
        prompts = [self._prompt] * len(rows)
        return self._model.generate(prompts, rows, self, self._new_tokens, ended=self._has_ended)

    def choose(self, logits: torch.Tensor, branches: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        """Sample from the nucleus."""
        self.tokens += len(logits)
        return self._sampler.choose(logits, branches, rows, step)

    def _has_ended(self, completion: Sequence[int]) -> bool:
        return is_confirmed(self._pattern, text_of(self._model.tokenizer, completion))


def stories(model: LanguageModel, split: str) -> list[TokenizedText]:
    """Both sides of the concept's pairs."""
    pairs = getattr(CONCEPT, split)
    return [tokenize_continuation(model.tokenizer, p.prompt, side) for p in pairs for side in (p.positive, p.negative)]


def documents(model: LanguageModel, count: int) -> list[TokenizedText]:
    """Neutral documents of 32 + 64 tokens."""
    return [tokenize_document(model.tokenizer, text, 32, 64) for text in load_neutral("embedded", count).documents]


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest, model: LanguageModel, ceiling: Ceiling) -> Iterator[Report]:
    """The report, printed when the module ends."""
    collected = Report()
    yield collected
    manager = request.config.pluginmanager
    lines = [aligned(table, 120) for table in collected.tables()]
    lines.append(
        f"{model.name}, {model.dtype_name}, {model.device.type}, "
        f"{torch.get_num_threads()} threads; fastest matrix product {ceiling.measure() / 1e9:.0f} GFLOP/s. Medians."
    )
    with manager.getplugin("capturemanager").global_and_fixture_disabled():
        terminal = manager.getplugin("terminalreporter")
        terminal.write_line("")
        for line in lines:
            terminal.write_line(line)


@pytest.fixture(scope="module")
def ceiling(model: LanguageModel) -> Ceiling:
    """The machine's fastest matrix product."""
    found = Ceiling(model)
    found.measure()
    return found


@pytest.fixture(scope="module")
def prompt(model: LanguageModel) -> list[int]:
    """The paper's prompt."""
    return tokenize_prompt(model.tokenizer, CONCEPT.rollout_prompts[0])
