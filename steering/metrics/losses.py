"""Change in loss on positive, negative and neutral text: Loss(M + v) − Loss(M), in nats per continuation token."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from steering import stats
from steering.metrics import Observation, Score, register
from steering.model import LanguageModel
from steering.profiles import Setting
from steering.progress import Reporter
from steering.tokens import TokenizedText, tokenize_continuation, tokenize_document
from steering.vectors import Intervention


@dataclass(frozen=True)
class StoryLoss:
    """Loss of test continuations, steered on their prompts.

    Attributes:
        side: "positive" or "negative".
        texts: (prompt, continuation) of each test pair.
    """

    side: str
    texts: tuple[tuple[str, str], ...]

    skip_reason = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The loss itself and its change."""
        return _names(self.side)

    def observe(self, model: LanguageModel, intervention: Intervention | None, progress: Reporter) -> Observation:
        """Mean cross-entropy of each continuation."""
        texts = [tokenize_continuation(model.tokenizer, prompt, rest) for prompt, rest in self.texts]
        return _observe(model, texts, intervention, progress)

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Loss and change in loss, each with its bootstrap interval over the stories."""
        return _score(self.side, observed, unsteered)


@dataclass(frozen=True)
class NeutralLoss:
    """Loss of neutral documents, steered on their first tokens.

    Attributes:
        documents: Whole texts.
        prompt_tokens: How many first tokens are the prompt.
        continuation_tokens: How many of the tokens after it are scored, at most.
    """

    documents: tuple[str, ...]
    prompt_tokens: int
    continuation_tokens: int

    names = ("loss_neutral", "loss_change_neutral")
    skip_reason = ""

    def observe(self, model: LanguageModel, intervention: Intervention | None, progress: Reporter) -> Observation:
        """Mean cross-entropy of each document's continuation."""
        return _observe(model, self._tokenized(model.tokenizer), intervention, progress)

    def _tokenized(self, tokenizer: PreTrainedTokenizerBase) -> list[TokenizedText]:
        return [
            tokenize_document(tokenizer, text, self.prompt_tokens, self.continuation_tokens) for text in self.documents
        ]

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Loss and change in loss, each with its bootstrap interval over the documents."""
        return _score("neutral", observed, unsteered)


def _names(kind: str) -> tuple[str, str]:
    return f"loss_{kind}", f"loss_change_{kind}"


def _observe(
    model: LanguageModel, texts: list[TokenizedText], intervention: Intervention | None, progress: Reporter
) -> Observation:
    return Observation(model.losses(texts, [intervention] * len(texts), progress))


def _score(kind: str, observed: Observation, unsteered: Observation) -> list[Score]:
    values = (observed.items, observed.items - unsteered.items)
    return [Score(name, items, *stats.mean_interval(items)) for name, items in zip(_names(kind), values, strict=True)]


@register("loss_positive")
def positive_loss(setting: Setting) -> StoryLoss:
    """Loss on the side that is steered towards."""
    return StoryLoss("positive", tuple((pair.prompt, pair.positive) for pair in setting.concept.test))


@register("loss_negative")
def negative_loss(setting: Setting) -> StoryLoss:
    """Loss on the side that is steered away from."""
    return StoryLoss("negative", tuple((pair.prompt, pair.negative) for pair in setting.concept.test))


@register("loss_neutral")
def neutral_loss(setting: Setting) -> NeutralLoss:
    """Loss on text that has nothing to do with the concept."""
    profile = setting.profile
    return NeutralLoss(setting.neutral.documents, profile.neutral_prompt_tokens, profile.neutral_continuation_tokens)
