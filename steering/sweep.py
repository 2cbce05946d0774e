"""From cells to outcomes: constructs each cell's vector, measures it beside the unsteered model, and writes it down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from steering.activations import ContrastActivations, capture_pairs
from steering.errors import NonFiniteError
from steering.methods import construct
from steering.metrics import Metric, Observation, Score, metrics
from steering.model import LanguageModel
from steering.profiles import Setting
from steering.progress import Reporter, Silent
from steering.results import UNSTEERED, Journal, Row, Status
from steering.vectors import Intervention, SteeringVector


@dataclass(frozen=True)
class Cell:
    """What one benchmark test stands for.

    Attributes:
        method: Construction method.
        layer: Block whose output is steered, from 0.
        multiplier: Dose.
    """

    method: str
    layer: int
    multiplier: float

    @property
    def id(self) -> str:
        """Test id; the layer comes last, so that `-k layer8` selects by it."""
        return f"{self.method}-layer{self.layer}"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was measured in one cell.

    Attributes:
        cell: The cell; None for the unsteered run.
        scores: Metric name -> score, of the metrics that could be measured.
        rows: What was written to the journal, failed and skipped metrics included.
        construction_seconds: Time to construct the vector from the activations.
        evaluation_seconds: Time to measure all metrics.
    """

    cell: Cell | None
    scores: dict[str, Score]
    rows: tuple[Row, ...]
    construction_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def failures(self) -> list[str]:
        """Reasons of the metrics that failed, each once."""
        return list(dict.fromkeys(row.reason for row in self.rows if row.status == "failed"))


class Sweep:
    """Measures cells of one setting on one model.

    Args:
        setting: What to measure.
        model: The model to steer.
        journal: Where rows go as each cell ends.
        layers: Layers of the cells to come; their activations are captured in one pass.
        run: Identifies this run in the rows.
        progress: Where to report.
    """

    def __init__(
        self,
        setting: Setting,
        model: LanguageModel,
        journal: Journal,
        layers: Sequence[int],
        *,
        run: str,
        progress: Reporter | None = None,
    ) -> None:
        self.setting = setting
        self.model = model
        self._journal = journal
        self._layers = tuple(sorted(set(layers)))
        self._run = run
        self._progress = progress or Silent()
        self.capture_seconds = 0.0
        self._metrics = [metrics[name](setting) for name in metrics]

    @cached_property
    def activations(self) -> ContrastActivations:
        """Activations of the concept's generation pairs at the sweep's layers."""
        concept = self.setting.concept
        started = time.perf_counter()
        activations = capture_pairs(self.model, concept.generation, self._layers, concept.name, self._progress)
        self.capture_seconds = time.perf_counter() - started
        return activations

    @cached_property
    def unsteered(self) -> Outcome:
        """The unsteered run: measured once, by the same code as each cell, and written first."""
        started = time.perf_counter()
        scored = self._score(self._unsteered_observations)
        return self._record(None, None, scored, 0.0, time.perf_counter() - started)

    @cached_property
    def _unsteered_observations(self) -> list[Observation | str]:
        return self._observe(None)

    def measure(self, cell: Cell) -> Outcome:
        """Construct the cell's vector, measure it, append its rows to the journal.

        A metric that meets NaN or infinity fails with its reason in the rows; the others are measured all the same.

        Raises:
            SteeringError: The vector cannot be constructed, or the journal cannot be written.
        """
        _ = self.unsteered
        plan, activations = self.setting.profile.plan(cell.method), self.activations
        started = time.perf_counter()
        vector = construct(cell.method, plan.parameters, activations, cell.layer)
        constructed = time.perf_counter()
        observed = self._observe(Intervention(vector, cell.multiplier))
        scored = self._score(observed)
        ended = time.perf_counter()
        return self._record(cell, vector, scored, constructed - started, ended - constructed)

    def _observe(self, intervention: Intervention | None) -> list[Observation | str]:
        """One observation for each metric, or the reason why it failed."""
        return [self._observe_one(metric, intervention) for metric in self._metrics]

    def _observe_one(self, metric: Metric, intervention: Intervention | None) -> Observation | str:
        if metric.skip_reason:
            return metric.skip_reason
        try:
            return metric.observe(self.model, intervention, self._progress)
        except NonFiniteError as error:
            return str(error)

    def _score(self, observed: Sequence[Observation | str]) -> list[list[Score] | str]:
        """Scores of each metric, or the reason why it has none."""
        return [
            _score_one(metric, here, there)
            for metric, here, there in zip(self._metrics, observed, self._unsteered_observations, strict=True)
        ]

    def _record(
        self,
        cell: Cell | None,
        vector: SteeringVector | None,
        scored: Sequence[list[Score] | str],
        construction_seconds: float,
        evaluation_seconds: float,
    ) -> Outcome:
        common = self._common(cell, vector)
        rows: list[Row] = []
        scores: dict[str, Score] = {}
        for metric, result in zip(self._metrics, scored, strict=True):
            if isinstance(result, str):
                status: Status = "skipped" if metric.skip_reason else "failed"
                rows += [Row(**common, metric=name, status=status, reason=result) for name in metric.names]
                continue
            for score in result:
                scores[score.metric] = score
                rows.append(_measured(common, score))
        self._journal.append(rows)
        return Outcome(cell, scores, tuple(rows), construction_seconds, evaluation_seconds)

    def _common(self, cell: Cell | None, vector: SteeringVector | None) -> dict[str, Any]:
        """The fields that all rows of a cell share."""
        profile, concept, neutral = self.setting.profile, self.setting.concept, self.setting.neutral
        return {
            "run": self._run,
            "model": self.model.name,
            "model_hash": self.model.hash,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "concept": concept.name,
            "toward": concept.toward,
            "neutral": neutral.name,
            "data_hash": self.setting.data_hash,
            "method": cell.method if cell else UNSTEERED,
            "parameters": dict(vector.parameters) if vector else {},
            "layer": cell.layer if cell else None,
            "multiplier": cell.multiplier if cell else 0.0,
            "vector_hash": vector.hash if vector else "",
            "vector_norm": vector.norm if vector else None,
            "seed": profile.seed,
            "measurement": profile.measurement,
        }


def _score_one(metric: Metric, observed: Observation | str, unsteered: Observation | str) -> list[Score] | str:
    if isinstance(observed, str):
        return observed
    if isinstance(unsteered, str):
        return f"the unsteered run failed: {unsteered}"
    return metric.score(observed, unsteered)


def _measured(common: dict[str, Any], score: Score) -> Row:
    return Row(
        **common,
        metric=score.metric,
        value=score.value,
        n=len(score.items),
        low=score.low,
        high=score.high,
        p_value=score.p_value,
        items=tuple(score.items.tolist()),
        texts=score.texts,
    )
