"""Texts that a model completes under some interventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steering.models.decoding import Ended
from steering.models.language_model import LanguageModel
from steering.models.sampling import Sampler
from steering.models.tokens import completed_text
from steering.progress import SILENT, Reporter
from steering.vectors import Intervention


@dataclass(frozen=True)
class Completed:
    """A prompt with its completion.

    Attributes:
        whole: Text of both.
        start: The character at which the completion begins.
    """

    whole: str
    start: int

    @property
    def completion(self) -> str:
        """Text of the completion alone."""
        return self.whole[self.start :]


def complete(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention | None],
    sampler: Sampler,
    new_tokens: int,
    *,
    progress: Reporter = SILENT,
    ended: Ended = lambda _: False,
) -> list[list[Completed]]:
    """Complete the same prompts under each of some interventions; arguments as those of `LanguageModel.generate`.

    Returns:
        `[intervention][prompt]`.
    """
    every = list(prompts) * len(interventions)
    rows = [intervention for intervention in interventions for _ in prompts]
    generated = model.generate(every, rows, sampler, new_tokens, progress, ended=ended)
    pairs = zip(every, generated, strict=True)
    texts = [Completed(*completed_text(model.tokenizer, prompt, completion)) for prompt, completion in pairs]
    count = len(prompts)
    return [texts[number * count : (number + 1) * count] for number in range(len(interventions))]
