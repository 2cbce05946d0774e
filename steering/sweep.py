"""From cells to outcomes: constructs vectors, measures them beside the unsteered model, and writes down what it saw.

Cells are measured together, as many as memory allows: their rollouts decode in one batch, and their losses go on from
the same stored outputs. What is measured of a cell does not depend on the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from steering import stats
from steering.activation_cache import ActivationCache
from steering.activations import ContrastActivations, FeatureReader, capture_pairs
from steering.cells import Cell, Outcome, control_of, plans_of, with_controls
from steering.errors import NonFiniteError, SaeError, VectorError
from steering.features import Descriptions
from steering.machine import release_freed_memory
from steering.methods import construct, methods, needs_sae
from steering.metrics import Metric, Observation, Score, metrics
from steering.model import LanguageModel
from steering.profiles import Setting
from steering.progress import Reporter, Silent
from steering.records import measured_row, run_fields, vector_fields
from steering.results import Journal, Row, Status
from steering.sae import SparseAutoencoder
from steering.sae_library import SaeLibrary
from steering.tokens import tokenize_prompt
from steering.vectors import Intervention


class Sweep:
    """Measures cells of one setting on one model.

    Args:
        setting: What to measure.
        model: The model to steer.
        journal: Where rows go as cells end.
        cells: The cells to come. They are measured together, and the activations of their layers captured in one pass.
        run: Identifies this run in the rows.
        saes: Where the SAEs are that some methods read.
        progress: Where to report.
        cache: Where activations of earlier runs are, and those of this one are kept.

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
        cache: ActivationCache | None = None,
    ) -> None:
        self.setting = setting
        self.model = model
        self.outcomes: list[Outcome] = []
        self.capture_seconds = 0.0
        self._journal = journal
        self._cells = with_controls(setting.profile, cells)
        self._run = run
        self._saes = saes
        self._progress = progress or Silent()
        self._cache = cache
        self._measured: dict[Cell, Outcome] = {}
        self._metrics = [metrics[name](setting, model) for name in metrics]

    @cached_property
    def activations(self) -> ContrastActivations:
        """Activations of the concept's generation pairs at the sweep's layers."""
        concept = self.setting.concept
        started = time.perf_counter()
        reader = FeatureReader(self._load_saes(), concept.feature_keywords)
        layers = sorted({cell.layer for cell in self._cells})
        activations = capture_pairs(
            self.model,
            concept.generation,
            layers,
            concept.name,
            reader=reader,
            progress=self._progress,
            cache=self._cache,
        )
        self.capture_seconds = time.perf_counter() - started
        return activations

    def _load_saes(self) -> list[tuple[SparseAutoencoder, Descriptions]]:
        profile = self.setting.profile
        layers = sorted(
            {
                cell.layer
                for cell in self._cells
                if any(needs_sae(methods[plan.method]) for plan in plans_of(profile, cell))
            }
        )
        if not layers:
            return []
        if self._saes is None:
            raise SaeError(f"profile {profile.name!r}: a method reads SAEs, and 'saes' names none")
        self._progress.note("loading sparse autoencoders …")
        loaded = [self._saes.load(layer, self.model.device) for layer in layers]
        return [(sae, self._saes.describe(sae)) for sae in loaded]

    @cached_property
    def unsteered(self) -> Outcome:
        """The unsteered run: measured once, by the same code as each cell, and written first."""
        started = time.perf_counter()
        scored = self._score(self._unsteered_observations, None)
        return self._record(None, None, scored, 0.0, time.perf_counter() - started)

    @cached_property
    def _unsteered_observations(self) -> list[Observation | str]:
        return self._observe([None])[0]

    def measure(self, cell: Cell) -> Outcome:
        """Measure a cell with its neighbours in the plan, and append their rows to the journal; each is measured once.

        A plan's control is measured with the cell or before. A metric that meets NaN or infinity fails with its reason
        in the rows, and so does each metric of a vector that cannot be constructed; the rest is measured all the same.

        Raises:
            SteeringError: The activations cannot be captured, or the journal cannot be written.
        """
        if cell not in self._measured:
            _ = self.unsteered, self.activations
            self._measure_together(self._plan(cell))
        return self._measured[cell]

    def _plan(self, cell: Cell) -> list[Cell]:
        """The cell, the controls that it needs, and as many of the cells that come after it as memory allows."""
        profile = self.setting.profile
        needed = with_controls(profile, [cell])
        after = self._cells[self._cells.index(cell) + 1 :] if cell in self._cells else []
        pending = [each for each in with_controls(profile, [cell, *after]) if each not in self._measured]
        return pending[: max(self._together, len(needed))]

    @cached_property
    def _together(self) -> int:
        """How many configurations' rollouts are decoded together."""
        profile, tokenizer = self.setting.profile, self.model.tokenizer
        prompt = max(len(tokenize_prompt(tokenizer, text)) for text in self.setting.concept.rollout_prompts)
        return max(1, self.model.rows_together(prompt + profile.new_tokens) // profile.rollouts)

    def _measure_together(self, cells: Sequence[Cell]) -> None:
        self._progress.note(f"measuring {', '.join(cell.id for cell in cells)} …")
        constructed = [self._construct(cell) for cell in cells]
        interventions = [found for found, _ in constructed if isinstance(found, Intervention)]
        started = time.perf_counter()
        observed = iter(self._observe(interventions))
        seconds = (time.perf_counter() - started) / max(1, len(interventions))
        for cell, (found, construction_seconds) in zip(cells, constructed, strict=True):
            if isinstance(found, Intervention):
                needed = control_of(self.setting.profile, cell)
                scored = self._score(next(observed), self._measured.get(needed) if needed else None)
                outcome = self._record(cell, found, scored, construction_seconds, seconds)
            else:
                failed: list[list[Score] | str] = [metric.skip_reason or found for metric in self._metrics]
                outcome = self._record(cell, None, failed, construction_seconds, 0.0)
            self._measured[cell] = outcome
        release_freed_memory()

    def _construct(self, cell: Cell) -> tuple[Intervention | str, float]:
        """The cell's intervention, or why there is none; and the seconds that it took."""
        started = time.perf_counter()
        try:
            found: Intervention | str = self.intervention(cell)
        except (SaeError, VectorError, NonFiniteError) as error:
            found = str(error)
        return found, time.perf_counter() - started

    def intervention(self, cell: Cell) -> Intervention:
        """The cell's vector with its dose.

        Raises:
            SaeError: The method finds no feature to use.
            VectorError: The vector has no length, though its plan scales it to another's.
        """
        plan, *others = plans_of(self.setting.profile, cell)
        vector = construct(plan.method, plan.parameters, self.activations, cell.layer)
        if not others:
            return Intervention(vector, cell.multiplier)
        other = others[-1]  # those between are themselves scaled to its norm
        reference = construct(other.method, other.parameters, self.activations, cell.layer)
        if vector.norm == 0:
            raise VectorError(f"{vector.label}: its norm is 0, so that it cannot be scaled to that of {other.name}")
        return Intervention(vector, cell.multiplier * reference.norm / vector.norm)

    def _observe(self, interventions: Sequence[Intervention | None]) -> list[list[Observation | str]]:
        """For each configuration one observation of each metric, or the reason why there is none."""
        columns = [self._observe_by(metric, interventions) for metric in self._metrics]
        return [list(row) for row in zip(*columns, strict=True)]

    def _observe_by(self, metric: Metric, interventions: Sequence[Intervention | None]) -> list[Observation | str]:
        if metric.skip_reason or not interventions:
            return [metric.skip_reason] * len(interventions)
        try:
            return list(metric.observe(interventions, self._progress))
        except NonFiniteError as error:
            if len(interventions) == 1:
                return [str(error)]
        return [self._observe_by(metric, [intervention])[0] for intervention in interventions]

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
            plan = self.setting.profile.plan(cell.method)
            common |= {
                "method": cell.method,
                "layer": cell.layer,
                "multiplier": cell.multiplier,
                "parameters": dict(plan.parameters),
                "control": plan.control,
                "is_control": plan.name in self.setting.profile.controls,
            }
        if intervention is not None:
            common |= vector_fields(intervention, self.activations)
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
