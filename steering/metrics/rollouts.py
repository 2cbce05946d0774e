"""Probability of a successful rollout: a keyword of the positive side appears in a sampled completion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steering import stats
from steering.concepts import keyword_pattern
from steering.metrics import Observation, Score, register
from steering.model import LanguageModel
from steering.profiles import Setting
from steering.progress import Reporter
from steering.sampling import NucleusSampler, uniform_streams
from steering.tokens import tokenize_prompt
from steering.vectors import Intervention

# Rows decoded together, as many for 2,000 rollouts as for 200: in bfloat16 a row can depend on its batch.
_BATCH = 200


@dataclass(frozen=True)
class RolloutProbability:
    """Share of completions that hold a keyword; the prompt itself is never searched.

    Attributes:
        prompts: Rollout i completes prompt i mod their number.
        keywords: Words of the positive side.
        rollouts: Completions in all.
        new_tokens: Length of a completion.
        temperature: Of sampling.
        top_p: Of sampling.
        seed: Of the uniform streams: the same for every configuration, so that rollouts are paired.
    """

    prompts: tuple[str, ...]
    keywords: tuple[str, ...]
    rollouts: int
    new_tokens: int
    temperature: float
    top_p: float
    seed: int

    names = ("rollout_probability",)
    skip_reason = ""

    def observe(self, model: LanguageModel, intervention: Intervention | None, progress: Reporter) -> Observation:
        """Sample the completions and look for keywords in each."""
        encoded = [tokenize_prompt(model.tokenizer, prompt) for prompt in self.prompts]
        prompts = [encoded[index % len(encoded)] for index in range(self.rollouts)]
        uniforms = uniform_streams(self.seed, self.rollouts, self.new_tokens)
        completions: list[list[int]] = []
        for start in range(0, self.rollouts, _BATCH):
            rows = slice(start, start + _BATCH)
            sampler = NucleusSampler(uniforms[rows], self.top_p, self.temperature)
            batch = prompts[rows]
            completions += model.generate(batch, [intervention] * len(batch), sampler, self.new_tokens, progress)
        texts = tuple(model.tokenizer.batch_decode(completions, skip_special_tokens=True))
        pattern = keyword_pattern(self.keywords)
        return Observation(np.array([float(pattern.search(text) is not None) for text in texts]), texts)

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Probability with its Wilson interval, and the exact paired test against the unsteered rollouts."""
        low, high = stats.proportion_interval(observed.items)
        p_value = stats.p_above_baseline(observed.items, unsteered.items)
        return [Score("rollout_probability", observed.items, low, high, p_value, observed.texts)]


@register("rollouts")
def rollout_probability(setting: Setting) -> RolloutProbability:
    """Build the metric from a profile and its concept."""
    profile, concept = setting.profile, setting.concept
    return RolloutProbability(
        prompts=concept.rollout_prompts,
        keywords=concept.keywords.positive,
        rollouts=profile.rollouts,
        new_tokens=profile.new_tokens,
        temperature=profile.temperature,
        top_p=profile.top_p,
        seed=profile.seed,
    )
