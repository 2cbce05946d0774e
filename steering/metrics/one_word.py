"""One-word completions: the first word of the most probable completion, steered against unsteered."""

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
from steering.models.sampling import Greedy
from steering.models.tokens import tokenize_prompts
from steering.progress import Reporter
from steering.settings import Setting
from steering.vectors import Intervention

_NEW_TOKENS = 6
_WORD = regex.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# Where a keyword may begin: at the first character, or at the first letter or digit, after a quote perhaps.
_STARTS = (regex.compile(r"\S"), regex.compile(r"[^\W_]"))


def first_word(completion: str) -> str:
    """Return the first word or number of a text, or an empty string where it has none.

    Where a script puts no space between words, that is all up to the first mark that is no letter.
    """
    match = _WORD.search(completion)
    return match.group() if match else ""


def _begins_with(pattern: regex.Pattern[str], text: Completed) -> bool:
    """Whether a match is the first that stands in a completion, but for what is no letter or digit."""
    firsts = (start.search(text.whole, text.start) for start in _STARTS)
    return any(pattern.match(text.whole, first.start()) is not None for first in firsts if first is not None)


@dataclass(frozen=True, eq=False)
class OneWordCompletion:
    """Greedy completions of prompts by one word.

    Attributes:
        model: Completes them.
        prompts: Token ids of each prompt, which is one item.
        pattern: Matches the keywords.
    """

    model: LanguageModel
    prompts: tuple[list[int], ...]
    pattern: regex.Pattern[str]

    names = ("one_word_changed", "one_word_success")
    observed_name = "one_word_success"

    @property
    def skip_reason(self) -> str:
        """A concept need not have such prompts."""
        return "" if self.prompts else "the concept has no one_word_prompts"

    def observe(self, interventions: Sequence[Intervention | None], progress: Reporter) -> list[Observation]:
        """Complete each prompt; an item is 1 where the completion begins with a keyword."""
        completed = complete(self.model, self.prompts, interventions, Greedy(), _NEW_TOKENS, progress=progress)
        return [self._observation(texts) for texts in completed]

    def _observation(self, texts: Sequence[Completed]) -> Observation:
        success = np.array([float(_begins_with(self.pattern, text)) for text in texts])
        return Observation(success, tuple(first_word(text.completion) for text in texts))

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Share of prompts whose word changed, and share completed by a keyword, with Wilson intervals."""
        pairs = zip(observed.texts, unsteered.texts, strict=True)
        changed = np.array([float(word != before) for word, before in pairs])
        values = (changed, observed.items)
        return [
            Score(name, items, *stats.proportion_interval(items), texts=observed.texts)
            for name, items in zip(self.names, values, strict=True)
        ]


@register("one_word")
def one_word_completion(setting: Setting, model: LanguageModel) -> OneWordCompletion:
    """The word that completes each of the concept's one-word prompts: another than before, and a keyword or not."""
    concept = setting.concept
    prompts = tuple(tokenize_prompts(model.tokenizer, concept, concept.one_word_prompts))
    return OneWordCompletion(model, prompts, keyword_pattern(concept.keywords.positive))
