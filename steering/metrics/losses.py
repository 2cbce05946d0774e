"""Change in loss on positive, negative and neutral text: Loss(M + v) − Loss(M), in nats per continuation token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steering import stats
from steering.concepts import ContrastPair, Side
from steering.metrics import Observation, Score, register
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.tokens import tokenize_documents, tokenize_side
from steering.progress import Reporter
from steering.settings import Setting
from steering.vectors import Intervention


@dataclass(frozen=True, eq=False)
class LossChange:
    """Loss of some texts under steering, and its change.

    Attributes:
        kind: "positive", "negative" or "neutral".
        losses: Of the texts, each of which is one item.
    """

    kind: str
    losses: ContinuationLosses

    skip_reason = ""

    @property
    def names(self) -> tuple[str, str]:
        """The loss itself and its change."""
        return f"loss_{self.kind}", f"loss_change_{self.kind}"

    @property
    def observed_name(self) -> str:
        """The loss itself."""
        return self.names[0]

    def observe(self, interventions: Sequence[Intervention | None], progress: Reporter) -> list[Observation]:
        """Mean cross-entropy of each continuation, nats per token."""
        return [Observation(items) for items in self.losses.measure(interventions, progress)]

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Loss and change in loss, each with its bootstrap interval over the texts."""
        values = (observed.items, observed.items - unsteered.items)
        return [Score(name, items, *stats.mean_interval(items)) for name, items in zip(self.names, values, strict=True)]


def _stories(kind: Side, model: LanguageModel, pairs: Sequence[ContrastPair]) -> LossChange:
    texts = [tokenize_side(model.tokenizer, pair, kind) for pair in pairs]
    return LossChange(kind, ContinuationLosses(model, texts, kind))


@register("loss_positive")
def positive_loss(setting: Setting, model: LanguageModel) -> LossChange:
    """Loss of the test continuations of the side that is steered towards."""
    return _stories("positive", model, setting.concept.test)


@register("loss_negative")
def negative_loss(setting: Setting, model: LanguageModel) -> LossChange:
    """Loss of the test continuations of the side that is steered away from."""
    return _stories("negative", model, setting.concept.test)


@register("loss_neutral")
def neutral_loss(setting: Setting, model: LanguageModel) -> LossChange:
    """Loss of documents that have nothing to do with the concept; their first tokens are their prompts."""
    texts = tokenize_documents(model.tokenizer, setting.neutral.documents, *setting.profile.neutral_lengths)
    return LossChange("neutral", ContinuationLosses(model, texts, "neutral"))
