"""Probability of a successful rollout: a keyword of the positive side appears in a sampled completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex

from steering import stats
from steering.keywords import keyword_pattern
from steering.metrics import Observation, Score, register
from steering.models.completions import Completed, complete
from steering.models.language_model import LanguageModel
from steering.models.sampling import NucleusSampler, uniform_streams
from steering.models.tokens import text_of, tokenize_prompts
from steering.progress import Reporter
from steering.results import SUCCESS
from steering.settings import Setting
from steering.vectors import Intervention

# Stands for bytes that do not make a character yet.
_UNFINISHED = "\ufffd"


def is_confirmed(pattern: regex.Pattern[str], text: str) -> bool:
    """Whether a completion holds a match that neither further text nor its prompt can undo.

    The character after the match is there, so that it is no letter; and so is one before it: a match at the beginning
    may go on with the prompt's last word.
    """
    matches = (match for match in pattern.finditer(text) if match.start() > 0)
    return any(text[match.end() : match.end() + 1] not in ("", _UNFINISHED) for match in matches)


@dataclass(frozen=True, eq=False)
class RolloutProbability:
    """Share of completions that hold a keyword; the prompt itself is never searched.

    A completion ends early once its keyword is confirmed by what stands around it.

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

    names = (SUCCESS,)
    observed_name = SUCCESS
    skip_reason = ""

    def observe(self, interventions: Sequence[Intervention | None], progress: Reporter) -> list[Observation]:
        """Sample the completions and look for keywords in each."""
        prompts = [self.prompts[index % len(self.prompts)] for index in range(self.rollouts)]
        work = (prompts, interventions, self.sampler, self.new_tokens)
        completed = complete(self.model, *work, progress=progress, ended=self._has_ended)
        return [self._observation(texts) for texts in completed]

    def _has_ended(self, completion: Sequence[int]) -> bool:
        return is_confirmed(self.pattern, text_of(self.model.tokenizer, completion))

    def _observation(self, texts: Sequence[Completed]) -> Observation:
        items = np.array([float(self.pattern.search(text.whole, text.start) is not None) for text in texts])
        return Observation(items, tuple(text.completion for text in texts))

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Probability with its Wilson interval, and the exact paired test against the unsteered rollouts."""
        low, high = stats.proportion_interval(observed.items)
        p_value = stats.p_more_successes(observed.items, unsteered.items)
        return [Score(SUCCESS, observed.items, low, high, p_value, observed.texts)]


@register("rollouts")
def rollout_probability(setting: Setting, model: LanguageModel) -> RolloutProbability:
    """P(success): how many completions of the concept's rollout prompts hold a keyword of the positive side."""
    profile, concept = setting.profile, setting.concept
    uniforms = uniform_streams(profile.seed, profile.rollouts, profile.new_tokens, profile.stream)
    return RolloutProbability(
        model=model,
        prompts=tuple(tokenize_prompts(model.tokenizer, concept, concept.rollout_prompts)),
        pattern=keyword_pattern(concept.keywords.positive),
        rollouts=profile.rollouts,
        new_tokens=profile.new_tokens,
        sampler=NucleusSampler(uniforms, profile.top_p, profile.temperature),
    )
