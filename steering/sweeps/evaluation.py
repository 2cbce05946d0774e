"""From interventions to scores: every metric over configurations that are measured together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from steering import stats
from steering.errors import NonFiniteError, require_known
from steering.metrics import Metric, Observation, Score, metrics
from steering.models.language_model import LanguageModel
from steering.models.machine import release_freed_memory
from steering.progress import Reporter
from steering.settings import Setting
from steering.sweeps.cells import Outcome
from steering.vectors import Intervention


@dataclass(frozen=True)
class Unmeasured:
    """Why a metric has no value.

    Attributes:
        status: "skipped" where it cannot be measured in this setting at all.
        reason: For people.
    """

    status: Literal["skipped", "failed"]
    reason: str


#: Metric -> what it saw of a configuration.
Observed = Mapping[str, Observation | Unmeasured]
#: Metric -> what came of it.
Scored = dict[str, list[Score] | Unmeasured]


class Evaluation:
    """The registered metrics, built for one setting and one model.

    Args:
        setting: What to measure.
        model: The model to steer.
        progress: Where to report.
    """

    def __init__(self, setting: Setting, model: LanguageModel, progress: Reporter) -> None:
        self._metrics: dict[str, Metric] = {name: metrics[name](setting, model) for name in metrics}
        self._progress = progress

    def chosen(self, names: Collection[str] | None) -> list[str]:
        """The registered metrics among some names, in their order; all for None.

        Raises:
            UnknownNameError: There is no metric of one of the names.
        """
        require_known("metric", names or (), self._metrics)
        return [name for name in self._metrics if names is None or name in names]

    def score_names(self, chosen: Sequence[str]) -> list[str]:
        """Names of the scores that some metrics give."""
        return [score for name in chosen for score in self._metrics[name].names]

    def observe(self, interventions: Sequence[Intervention | None], chosen: Sequence[Sequence[str]]) -> list[Observed]:
        """Observe each configuration by the metrics chosen for it."""
        observed: list[dict[str, Observation | Unmeasured]] = [{} for _ in interventions]
        for name, metric in self._metrics.items():
            members = [index for index, wanted in enumerate(chosen) if name in wanted]
            found = self._observe(metric, [interventions[index] for index in members])
            for index, observation in zip(members, found, strict=True):
                observed[index][name] = observation
            release_freed_memory()
        return list(observed)

    def _observe(self, metric: Metric, interventions: Sequence[Intervention | None]) -> list[Observation | Unmeasured]:
        if skipped := _skipped(metric):
            return [skipped for _ in interventions]
        if not interventions:
            return []
        try:
            return list(metric.observe(interventions, self._progress))
        except NonFiniteError as error:
            if len(interventions) == 1:
                return [Unmeasured("failed", str(error))]
        return [self._observe(metric, [intervention])[0] for intervention in interventions]

    def restored(self, outcome: Outcome, chosen: Sequence[str]) -> Observed:
        """What the metrics chosen for a configuration saw of it, whose outcome was written down."""
        of_metrics = {name: self._metrics[name] for name in chosen}
        return {
            name: _skipped(metric) or _observation(outcome.scores[metric.observed_name])
            for name, metric in of_metrics.items()
        }

    def score(self, observed: Observed, unsteered: Observed, control: Outcome | None) -> Scored:
        """Scores of each metric that observed a configuration, or the reason why it has none."""
        return {
            name: self._score(self._metrics[name], seen, unsteered[name], control) for name, seen in observed.items()
        }

    def _score(
        self,
        metric: Metric,
        observed: Observation | Unmeasured,
        unsteered: Observation | Unmeasured,
        control: Outcome | None,
    ) -> list[Score] | Unmeasured:
        if isinstance(observed, Unmeasured):
            return observed
        if isinstance(unsteered, Unmeasured):
            return Unmeasured("failed", f"the unsteered run failed: {unsteered.reason}")
        return [_against(score, control) for score in metric.score(observed, unsteered)]

    def failed(self, chosen: Sequence[str], reason: str) -> Scored:
        """In the place of scores, the reason of a configuration that cannot be measured."""
        return {name: _skipped(self._metrics[name]) or Unmeasured("failed", reason) for name in chosen}


def _skipped(metric: Metric) -> Unmeasured | None:
    """Why a metric cannot be measured in its setting at all, if it cannot."""
    return Unmeasured("skipped", metric.skip_reason) if metric.skip_reason else None


def _observation(score: Score) -> Observation:
    """What a metric saw, from the score that holds it."""
    return Observation(score.items, score.texts)


def _against(score: Score, control: Outcome | None) -> Score:
    """The score with its test against the control, where it has a test and the control was measured."""
    if score.p_value is None or control is None or score.metric not in control.scores:
        return score
    return replace(score, p_control=stats.p_more_successes(score.items, control.scores[score.metric].items))
