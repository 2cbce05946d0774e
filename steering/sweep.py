"""From cells to outcomes: constructs each cell's vector, measures it beside the unsteered model, and writes it down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from steering import stats
from steering.activations import ContrastActivations, FeatureReader, capture_pairs
from steering.errors import NonFiniteError, SaeError, VectorError
from steering.features import Descriptions
from steering.methods import construct, methods, needs_sae
from steering.metrics import Metric, Observation, Score, metrics
from steering.model import LanguageModel
from steering.profiles import MethodPlan, Setting
from steering.progress import Reporter, Silent
from steering.records import measured_row, run_fields
from steering.results import Journal, Row, Status
from steering.sae import SparseAutoencoder
from steering.sae_library import SaeLibrary
from steering.vectors import Intervention


@dataclass(frozen=True)
class Cell:
    """What one benchmark test stands for.

    Attributes:
        method: Name of one of the profile's plans.
        layer: Block whose output is steered, from 0.
        multiplier: Dose, as the plan gives it.
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
        cells: The cells to come; the activations of their layers are captured in one pass.
        run: Identifies this run in the rows.
        saes: Where the SAEs are that some methods read.
        progress: Where to report.

    Attributes:
        outcomes: What was measured so far, the unsteered run first.
    """

    def __init__(
        self,
        setting: Setting,
        model: LanguageModel,
        journal: Journal,
        cells: Sequence[Cell],
        *,
        run: str,
        saes: SaeLibrary | None = None,
        progress: Reporter | None = None,
    ) -> None:
        self.setting = setting
        self.model = model
        self.outcomes: list[Outcome] = []
        self._journal = journal
        self._layers = sorted({cell.layer for cell in cells})
        self._sae_layers = sorted({cell.layer for cell in cells if needs_sae(methods[self._plan(cell).method])})
        self._run = run
        self._saes = saes
        self._progress = progress or Silent()
        self._measured: dict[Cell, Outcome] = {}
        self.capture_seconds = 0.0
        self._metrics = [metrics[name](setting) for name in metrics]

    def _plan(self, cell: Cell) -> MethodPlan:
        return self.setting.profile.plan(cell.method)

    @cached_property
    def activations(self) -> ContrastActivations:
        """Activations of the concept's generation pairs at the sweep's layers."""
        concept = self.setting.concept
        started = time.perf_counter()
        reader = FeatureReader(self._load_saes(), concept.feature_keywords)
        activations = capture_pairs(
            self.model, concept.generation, self._layers, concept.name, reader=reader, progress=self._progress
        )
        self.capture_seconds = time.perf_counter() - started
        return activations

    def _load_saes(self) -> list[tuple[SparseAutoencoder, Descriptions]]:
        if not self._sae_layers:
            return []
        if self._saes is None:
            raise SaeError(f"profile {self.setting.profile.name!r}: a method reads SAEs, and 'saes' names none")
        self._progress.note("loading sparse autoencoders …")
        loaded = [self._saes.load(layer, self.model.device) for layer in self._sae_layers]
        return [(sae, self._saes.describe(sae)) for sae in loaded]

    @cached_property
    def unsteered(self) -> Outcome:
        """The unsteered run: measured once, by the same code as each cell, and written first."""
        started = time.perf_counter()
        scored = self._score(self._unsteered_observations, None)
        return self._record(None, None, scored, 0.0, time.perf_counter() - started)

    @cached_property
    def _unsteered_observations(self) -> list[Observation | str]:
        return self._observe(None)

    def measure(self, cell: Cell) -> Outcome:
        """Construct the cell's vector, measure it, append its rows to the journal; a cell is measured once.

        The plan's control is measured before, if it was not yet. A metric that meets NaN or infinity fails with its
        reason in the rows, and so does each metric of a vector that cannot be constructed; the rest is measured all the
        same.

        Raises:
            SteeringError: The activations cannot be captured, or the journal cannot be written.
        """
        if cell not in self._measured:
            self._measured[cell] = self._measure(cell)
        return self._measured[cell]

    def control_of(self, cell: Cell) -> Outcome | None:
        """The outcome of the control that the cell's plan names, or None where it names none."""
        name = self._plan(cell).control
        if not name:
            return None
        return self.measure(Cell(name, cell.layer, self.setting.profile.plan(name).multiplier))

    def _measure(self, cell: Cell) -> Outcome:
        _ = self.unsteered, self.activations
        control = self.control_of(cell)
        started = time.perf_counter()
        try:
            intervention = self.intervention(cell)
        except (SaeError, VectorError, NonFiniteError) as error:
            failed: list[list[Score] | str] = [str(error)] * len(self._metrics)
            return self._record(cell, None, failed, time.perf_counter() - started, 0.0)
        constructed = time.perf_counter()
        observed = self._observe(intervention)
        scored = self._score(observed, control)
        ended = time.perf_counter()
        return self._record(cell, intervention, scored, constructed - started, ended - constructed)

    def intervention(self, cell: Cell) -> Intervention:
        """The cell's vector with its dose.

        Raises:
            SaeError: The method finds no feature to use.
            VectorError: The vector has no length, though its plan scales it to another's.
        """
        plan = self._plan(cell)
        vector = construct(plan.method, plan.parameters, self.activations, cell.layer)
        if not plan.norm_of:
            return Intervention(vector, cell.multiplier)
        other = self.setting.profile.plan(plan.norm_of)
        reference = construct(other.method, other.parameters, self.activations, cell.layer)
        if vector.norm == 0:
            raise VectorError(f"{vector.label}: its norm is 0, so that it cannot be scaled to that of {other.name}")
        return Intervention(vector, cell.multiplier * reference.norm / vector.norm)

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

    def _score(self, observed: Sequence[Observation | str], control: Outcome | None) -> list[list[Score] | str]:
        """Scores of each metric, or the reason why it has none."""
        scored: list[list[Score] | str] = []
        for metric, here, there in zip(self._metrics, observed, self._unsteered_observations, strict=True):
            result = _score_one(metric, here, there)
            scored.append(result if isinstance(result, str) else [_against(score, control) for score in result])
        return scored

    def _record(
        self,
        cell: Cell | None,
        intervention: Intervention | None,
        scored: Sequence[list[Score] | str],
        construction_seconds: float,
        evaluation_seconds: float,
    ) -> Outcome:
        common = self._common(cell, intervention)
        rows: list[Row] = []
        scores: dict[str, Score] = {}
        for metric, result in zip(self._metrics, scored, strict=True):
            if isinstance(result, str):
                status: Status = "skipped" if metric.skip_reason else "failed"
                rows += [Row(**common, metric=name, status=status, reason=result) for name in metric.names]
                continue
            for score in result:
                scores[score.metric] = score
                rows.append(measured_row(common, score))
        self._journal.append(rows)
        self.outcomes.append(Outcome(cell, scores, tuple(rows), construction_seconds, evaluation_seconds))
        return self.outcomes[-1]

    def _common(self, cell: Cell | None, intervention: Intervention | None) -> dict[str, Any]:
        """The fields that all rows of a cell share."""
        common = run_fields(self.setting, self.model, self._run)
        if cell is not None:
            common |= {
                "method": cell.method,
                "layer": cell.layer,
                "multiplier": cell.multiplier,
                "parameters": dict(self._plan(cell).parameters),
            }
        if intervention is not None:
            vector = intervention.vector
            common |= {
                "multiplier": intervention.multiplier,
                "parameters": dict(vector.parameters),
                "vector_hash": vector.hash,
                "vector_norm": vector.norm,
                "features": vector.features,
            }
        return common


def _score_one(metric: Metric, observed: Observation | str, unsteered: Observation | str) -> list[Score] | str:
    if isinstance(observed, str):
        return observed
    if isinstance(unsteered, str):
        return f"the unsteered run failed: {unsteered}"
    return metric.score(observed, unsteered)


def _against(score: Score, control: Outcome | None) -> Score:
    """The score with its test against the control, where it has a test and the control was measured."""
    if score.p_value is None or control is None or score.metric not in control.scores:
        return score
    return replace(score, p_control=stats.p_above_baseline(score.items, control.scores[score.metric].items))
