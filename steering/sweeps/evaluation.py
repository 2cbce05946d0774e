"""From interventions to scores: every metric over configurations that are measured together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from steering import stats
from steering.errors import NonFiniteError
from steering.metrics import Metric, Observation, Score, metrics
from steering.models.language_model import LanguageModel
from steering.models.machine import release_freed_memory
from steering.profiles import Setting
from steering.progress import Reporter
from steering.sweeps.cells import Outcome
from steering.vectors import Intervention

#: Metric -> what it saw of a configuration, or the reason why it saw nothing.
Observed = Mapping[str, Observation | str]


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
        """The registered metrics among some names, in their order; all for None."""
        return [name for name in self._metrics if names is None or name in names]

    def score_names(self, chosen: Sequence[str]) -> list[str]:
        """Names of the scores that some metrics give."""
        return [score for name in chosen for score in self._metrics[name].names]

    def observe(
        self, interventions: Sequence[Intervention | None], chosen: Sequence[Sequence[str]]
    ) -> list[dict[str, Observation | str]]:
        """Observe each configuration by the metrics chosen for it."""
        observed: list[dict[str, Observation | str]] = [{} for _ in interventions]
        for name, metric in self._metrics.items():
            members = [index for index, wanted in enumerate(chosen) if name in wanted]
            found = self._observe(metric, [interventions[index] for index in members])
            for index, observation in zip(members, found, strict=True):
                observed[index][name] = observation
            release_freed_memory()
        return observed

    def _observe(self, metric: Metric, interventions: Sequence[Intervention | None]) -> list[Observation | str]:
        if metric.skip_reason or not interventions:
            return [metric.skip_reason] * len(interventions)
        try:
            return list(metric.observe(interventions, self._progress))
        except NonFiniteError as error:
            if len(interventions) == 1:
                return [str(error)]
        return [self._observe(metric, [intervention])[0] for intervention in interventions]

    def restored(self, outcome: Outcome) -> dict[str, Observation | str]:
        """What the metrics saw of a configuration whose outcome was written down."""
        seen: dict[str, Observation | str] = {}
        for name, metric in self._metrics.items():
            if metric.skip_reason:
                seen[name] = metric.skip_reason
            else:
                score = outcome.scores[metric.observed]
                seen[name] = Observation(score.items, score.texts)
        return seen

    def score(self, observed: Observed, unsteered: Observed, control: Outcome | None) -> dict[str, list[Score] | str]:
        """Scores of each metric that observed a configuration, or the reason why it has none."""
        return {
            name: self._score(self._metrics[name], here, unsteered[name], control) for name, here in observed.items()
        }

    def _score(
        self, metric: Metric, here: Observation | str, there: Observation | str, control: Outcome | None
    ) -> list[Score] | str:
        if isinstance(here, str):
            return here
        if isinstance(there, str):
            return f"the unsteered run failed: {there}"
        return [_against(score, control) for score in metric.score(here, there)]

    def rescored(
        self, outcome: Outcome, chosen: Sequence[str], control: Outcome | None
    ) -> dict[str, list[Score] | str]:
        """Scores of a configuration whose outcome was written down, tested against the control as it is now."""
        return {
            name: self._metrics[name].skip_reason
            or [_against(replace(outcome.scores[each], p_control=None), control) for each in self._metrics[name].names]
            for name in chosen
        }

    def failed(self, chosen: Sequence[str], reason: str) -> dict[str, list[Score] | str]:
        """In the place of scores, the reason of a configuration that cannot be measured."""
        return {name: self._metrics[name].skip_reason or reason for name in chosen}

    def skips(self, name: str) -> bool:
        """Whether a metric cannot be measured in this setting."""
        return bool(self._metrics[name].skip_reason)


def _against(score: Score, control: Outcome | None) -> Score:
    """The score with its test against the control, where it has a test and the control was measured."""
    if score.p_value is None or control is None or score.metric not in control.scores:
        return score
    return replace(score, p_control=stats.p_above_baseline(score.items, control.scores[score.metric].items))
