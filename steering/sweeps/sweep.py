"""From cells to outcomes: measures them beside the unsteered model, and writes down what it saw.

Cells are measured together, as many as memory allows: their rollouts decode in one batch, and their losses go on from
the same stored outputs. What is measured of a cell does not depend on the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from steering.activation_cache import ActivationCache
from steering.activations import ContrastActivations
from steering.journal import Journal
from steering.metrics import Score
from steering.models.language_model import LanguageModel
from steering.models.tokens import tokenize_prompts
from steering.progress import SILENT, Reporter
from steering.results import Row
from steering.sae.library import SaeLibrary
from steering.settings import Setting
from steering.sweeps.cells import Cell, Outcome, control_of, with_controls
from steering.sweeps.construction import Constructed, Constructor
from steering.sweeps.earlier import Earlier
from steering.sweeps.evaluation import Evaluation, Observed, Scored, Unmeasured
from steering.sweeps.records import blank_row, dose_parameters, of_cell, of_vector, with_score
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
        earlier: What earlier runs measured: cells that are among it are not measured again, nor written.
        most_together: How many cells are measured together at most; None for as many as memory allows.

    Attributes:
        setting: What is measured.
        model: The model that is steered.
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
        progress: Reporter = SILENT,
        cache: ActivationCache | None = None,
        earlier: Earlier | None = None,
        most_together: int | None = None,
    ) -> None:
        self.setting = setting
        self.model = model
        self.outcomes: list[Outcome] = []
        self._journal = journal
        self._cells = with_controls(setting.profile, cells)
        self._run = run
        self._progress = progress
        self._earlier = earlier or Earlier()
        self._most_together = most_together
        self._constructor = Constructor(setting, model, self._cells, saes=saes, progress=self._progress, cache=cache)
        self._evaluation = Evaluation(setting, model, self._progress)
        self._measured: dict[Cell, Outcome] = {}

    @property
    def activations(self) -> ContrastActivations:
        """Activations of the concept's generation pairs at the sweep's layers."""
        return self._constructor.activations

    @property
    def capture_seconds(self) -> float:
        """Time that capturing the activations took."""
        return self._constructor.capture_seconds

    def intervention(self, cell: Cell) -> Intervention:
        """The cell's vector with the multiplier that its plan gives it; see `Constructor.intervention`."""
        return self._constructor.intervention(cell)

    @cached_property
    def unsteered(self) -> Outcome:
        """The unsteered run: measured once, by the same code as each cell, and written first."""
        if self._unsteered_earlier is not None:
            return self._remember(self._unsteered_earlier)
        started = time.perf_counter()
        scored = self._evaluation.score(self._unsteered_observed, self._unsteered_observed, None)
        return self._record(None, self._blank(None), scored, 0.0, time.perf_counter() - started)

    @cached_property
    def _unsteered_observed(self) -> Observed:
        if self._unsteered_earlier is not None:
            return self._evaluation.restored(self._unsteered_earlier, self._evaluation.chosen(None))
        return self._evaluation.observe([None], [self._evaluation.chosen(None)])[0]

    @cached_property
    def _unsteered_earlier(self) -> Outcome | None:
        return self._earlier.outcome(None, self._blank(None), self._score_names(None))

    def begin(self) -> None:
        """Do what all cells need, unless it is done.

        That is to measure the unsteered run, to capture the activations, and to read the documents that doses are
        found by.

        Raises:
            SteeringError: As `measure`.
        """
        _ = self.unsteered, self.activations, self._constructor.doses

    def measure(self, cell: Cell) -> Outcome:
        """Measure a cell with its neighbours in the plan, and append their rows to the journal; each is measured once.

        A plan's control is measured with the cell or before. A metric that meets NaN or infinity fails with its reason
        in the rows, and so does each metric of a vector that cannot be constructed; the rest is measured all the same.

        Raises:
            SteeringError: The activations cannot be captured, or the journal cannot be written.
        """
        if cell not in self._measured:
            self.begin()
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
        profile, concept = self.setting.profile, self.setting.concept
        prompt = max(map(len, tokenize_prompts(self.model.tokenizer, concept, concept.rollout_prompts)))
        fitting = max(1, self.model.rows_together(prompt + profile.new_tokens) // profile.rollouts)
        return fitting if self._most_together is None else min(fitting, self._most_together)

    def _measure_together(self, cells: Sequence[Cell]) -> None:
        constructed = {cell: self._constructor.construct(cell) for cell in cells}
        blank = {cell: self._blank(cell, found) for cell, found in constructed.items()}
        earlier = {cell: self._earlier.outcome(cell, blank[cell], self._score_names(cell)) for cell in cells}
        new = {cell: found for cell, found in constructed.items() if earlier[cell] is None}
        if new:
            self._progress.note(f"measuring {', '.join(dict.fromkeys(cell.id for cell in new))} …")
        observed = self._observe(new)
        for cell, found in constructed.items():
            needed = control_of(self.setting.profile, cell)
            control = self._measured.get(needed) if needed else None
            kept = earlier[cell]
            if kept is not None:
                self._measured[cell] = self._take_over(cell, blank[cell], kept, control)
                continue
            if cell in observed:
                scored = self._evaluation.score(observed[cell].seen, self._unsteered_observed, control)
                seconds = observed[cell].seconds
            else:
                scored, seconds = self._evaluation.failed(self._chosen(cell), found.reason), 0.0
            self._measured[cell] = self._record(cell, blank[cell], scored, found.seconds, seconds)

    def _observe(self, constructed: Mapping[Cell, Constructed]) -> dict[Cell, _Seen]:
        """Observe the cells that have a vector, all together; each took an equal share of the time."""
        present = {cell: found.intervention for cell, found in constructed.items() if found.intervention}
        started = time.perf_counter()
        observed = self._evaluation.observe(list(present.values()), [self._chosen(cell) for cell in present])
        seconds = (time.perf_counter() - started) / max(1, len(present))
        return {cell: _Seen(seen, seconds) for cell, seen in zip(present, observed, strict=True)}

    def _chosen(self, cell: Cell | None) -> list[str]:
        """The metrics of a cell."""
        return self._evaluation.chosen(self.setting.profile.plan(cell.method).metrics if cell else None)

    def _score_names(self, cell: Cell | None) -> list[str]:
        return self._evaluation.score_names(self._chosen(cell))

    def _take_over(self, cell: Cell, blank: Row, outcome: Outcome, control: Outcome | None) -> Outcome:
        """Take over what an earlier run saw; it is written again only if what it is compared with is another by now."""
        seen = self._evaluation.restored(outcome, self._chosen(cell))
        scored = self._evaluation.score(seen, self._unsteered_observed, control)
        rows, scores = self._rows(blank, scored)
        rows = [replace(row, versions=old.versions) for row, old in zip(rows, outcome.rows, strict=True)]
        known = [replace(row, run=old.run).to_json() for row, old in zip(rows, outcome.rows, strict=True)]
        if known == [old.to_json() for old in outcome.rows]:  # as texts, since what was read back has lists for tuples
            return self._remember(outcome)
        return self._write(Outcome(cell, scores, tuple(rows), was_measured_earlier=True))

    def _remember(self, outcome: Outcome) -> Outcome:
        self.outcomes.append(outcome)
        return outcome

    def _record(
        self,
        cell: Cell | None,
        blank: Row,
        scored: Scored,
        construction_seconds: float,
        evaluation_seconds: float,
    ) -> Outcome:
        rows, scores = self._rows(blank, scored)
        return self._write(Outcome(cell, scores, tuple(rows), construction_seconds, evaluation_seconds))

    def _write(self, outcome: Outcome) -> Outcome:
        self._journal.append(outcome.rows)
        return self._remember(outcome)

    def _rows(self, blank: Row, scored: Scored) -> tuple[list[Row], dict[str, Score]]:
        """The rows of a cell, and its scores by name."""
        rows: list[Row] = []
        scores: dict[str, Score] = {}
        for name, result in scored.items():
            if isinstance(result, Unmeasured):
                unmeasured = replace(blank, status=result.status, reason=result.reason)
                rows += [replace(unmeasured, metric=each) for each in self._evaluation.score_names([name])]
                continue
            for score in result:
                scores[score.metric] = score
                rows.append(with_score(blank, score))
        return rows, scores

    def _blank(self, cell: Cell | None, constructed: Constructed | None = None) -> Row:
        """What all rows of a cell share: a row without a metric."""
        row = blank_row(self.setting, self.model, self._run)
        if cell is None:
            return row
        row = of_cell(row, self.setting, cell)
        if constructed is not None and constructed.intervention is not None:
            row = of_vector(row, self.setting, constructed.intervention, self.activations)
        dose = constructed.dose if constructed else None
        return replace(row, parameters=row.parameters | dose_parameters(self.setting, cell, dose, self.activations))


@dataclass(frozen=True)
class _Seen:
    """What the metrics saw of a cell, and the seconds that it took."""

    seen: Observed
    seconds: float
