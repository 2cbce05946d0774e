"""Metrics: from a model and an intervention to per-item values.

To add one, put a module here with a class of the shape of `Metric` and a function that builds it for a `Setting` and a
model:

    @register("my_metric")
    def my_metric(setting: Setting, model: LanguageModel) -> MyMetric: ...

A metric observes any number of configurations by one call, the unsteered model among them, and scores one against the
other. What it sees of a configuration does not depend on the others in the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from steering.errors import NonFiniteError, SteeringError
from steering.models.language_model import LanguageModel
from steering.progress import Reporter
from steering.registry import Registry
from steering.settings import Setting
from steering.vectors import Intervention


@dataclass(frozen=True, eq=False)
class Observation:
    """What a metric saw under one configuration.

    Attributes:
        items: `[item]`, float64; the same items in the same order whatever the configuration.
        texts: The completions behind the items, where there are any.
    """

    items: np.ndarray
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Score:
    """One metric value with its items and its interval.

    Attributes:
        metric: Name in results.
        items: `[item]`, float64.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Of the one-sided paired test against the unsteered run, where the metric has one.
        texts: The completions behind the items.
        p_control: Of the one-sided paired test against the control, where there is one.
    """

    metric: str
    items: np.ndarray
    low: float
    high: float
    p_value: float | None = None
    texts: tuple[str, ...] = ()
    p_control: float | None = None

    def __post_init__(self) -> None:
        """Refuse a mean of nothing and NaN."""
        if len(self.items) == 0:
            raise SteeringError(f"metric {self.metric!r} has no items; its mean is not defined")
        if not np.isfinite([*self.items, self.low, self.high]).all():
            raise NonFiniteError(f"metric {self.metric!r} holds NaN or infinity")

    @property
    def value(self) -> float:
        """Mean of the items."""
        return float(self.items.mean())


class Metric(Protocol):
    """Measures one property of a steered model."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores it gives, in their order."""
        ...

    @property
    def observed_name(self) -> str:
        """Which of the names has what was observed as its items: a score that was written down gives it back."""
        ...

    @property
    def skip_reason(self) -> str:
        """Why it cannot be measured in this setting, or an empty string."""
        ...

    def observe(self, interventions: Sequence[Intervention | None], progress: Reporter) -> list[Observation]:
        """Measure some configurations, in their order.

        Args:
            interventions: One for each configuration; None is the unsteered model.
            progress: Where to report.

        Raises:
            NonFiniteError: NaN or infinity was met in one of them.
        """
        ...

    def score(self, observed: Observation, unsteered: Observation) -> list[Score]:
        """Compare with the unsteered observation.

        Args:
            observed: Of one configuration.
            unsteered: Of the unsteered model: the same items.

        Returns:
            One score for each of `names`.
        """
        ...


metrics: Registry[Callable[[Setting, LanguageModel], Metric]] = Registry("metric", __name__)
register = metrics.register
