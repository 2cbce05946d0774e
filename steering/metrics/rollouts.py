"""Probability of a successful rollout: a keyword of the positive side appears in a sampled completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex

from steering import stats
from steering.keywords import keyword_pattern
from steering.metrics import Observation, Score, register
from steering.models.language_model import LanguageModel
from steering.models.sampling import NucleusSampler, uniform_streams
from steering.models.tokens import tokenize_prompt
from steering.profiles import Setting
from steering.progress import Reporter
from steering.vectors import Intervention

# Stands for bytes that do not make a character yet.
_UNFINISHED = "\ufffd"


def is_confirmed(pattern: regex.Pattern[str], text: str) -> bool:
    """Whether a text holds a match that no further text can undo: the character after it is there, and is no letter."""
    return any(text[match.end() : match.end() + 1] not in ("", _UNFINISHED) for match in pattern.finditer(text))


@dataclass(frozen=True, eq=False)
class RolloutProbability:
    """Share of completions that hold a keyword; the prompt itself is never searched.

    A completion ends early once its keyword is confirmed by what follows it.

    Attributes:
        model: Completes the prompts.
        prompts: Token ids; rollout i completes prompt i mod their number.
        pattern: Matches the keywords.
        rollouts: Completions in all.
        new_tokens: Length of a completion.
        sampler: With a row of uniform numbers for each rollout: the same for every configuration, so that rollouts are
            paired.
    """

    model: LanguageModel
    prompts: tuple[list[int], ...]
    pattern: regex.Pattern[str]
    rollouts: int
    new_tokens: int
    sampler: NucleusSampler

    names = ("rollout_probability",)
    observed = "rollout_probability"
    skip_reason = ""

    def observe(self, interventions: Sequence[Intervention | None], progress: Reporter) -> list[Observation]:
        """Sample the completions and look for keywords in each."""
        prompts = [self.prompts[index % len(self.prompts)] for index in range(self.rollouts)] * len(interventions)
        rows = [intervention for intervention in interventions for _ in range(self.rollouts)]
        completions = self.model.generate(prompts, rows, self.sampler, self.new_tokens, progress, ended=self._has_ended)
        texts = [self._decoded(completion) for completion in completions]
        return [self._observation(texts[first : first + self.rollouts]) for first in range(0, len(rows), self.rollouts)]

    def _has_ended(self, completion: Sequence[int]) -> bool:
        return is_confirmed(self.pattern, self._decoded(completion))

    def _decoded(self, completion: Sequence[int]) -> str:
        """Text of a completion; a longer one's begins with it, so that nothing is cleaned up after the fact."""
        decode = self.model.tokenizer.decode
        return str(decode(list(completion), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _observation(self, texts: Sequence[str]) -> Observation:
        return Observation(np.array([float(self.pattern.search(text) is not None) for text in texts]), tuple(texts))

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Probability with its Wilson interval, and the exact paired test against the unsteered rollouts."""
        low, high = stats.proportion_interval(observed.items)
        p_value = stats.p_above_baseline(observed.items, unsteered.items)
        return [Score("rollout_probability", observed.items, low, high, p_value, observed.texts)]


@register("rollouts")
def rollout_probability(setting: Setting, model: LanguageModel) -> RolloutProbability:
    """P(success): how many completions of the concept's rollout prompts hold a keyword of the positive side."""
    profile, concept = setting.profile, setting.concept
    uniforms = uniform_streams(profile.seed, profile.rollouts, profile.new_tokens, profile.stream)
    return RolloutProbability(
        model=model,
        prompts=tuple(tokenize_prompt(model.tokenizer, prompt) for prompt in concept.rollout_prompts),
        pattern=keyword_pattern(concept.keywords.positive),
        rollouts=profile.rollouts,
        new_tokens=profile.new_tokens,
        sampler=NucleusSampler(uniforms, profile.top_p, profile.temperature),
    )
