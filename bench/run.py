"""One benchmark run as it goes: what was selected, and what was measured so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.request import Request
from steering.errors import ResultsError
from steering.journal import Journal, journal_file, load_rows
from steering.methods import needs_losses
from steering.methods.stored import load_fitting
from steering.models.language_model import LanguageModel
from steering.results import SAE, UNSTEERED, Row
from steering.sweeps.cells import Cell, Outcome, plans_of, with_controls
from steering.sweeps.records import blank_row
from steering.sweeps.sae_quality import SaeOutcome
from steering.sweeps.stored_vectors import model_difference
from steering.verdicts.baselines import Baseline
from steering.verdicts.comparability import dose_difference, obstacles


@dataclass
class Run:
    """State of one benchmark run, kept on pytest's configuration.

    Attributes:
        request: What the run is to do.
        cells: Cells selected.
        sae_layers: Layers of the SAEs selected.
        deselected: Cells (method, layer) that were left out on purpose.
        obstacles: Why nothing that is measured can be compared with the baseline.
        notes: What has to be known of vectors from files, found when the model was there.
        outcomes: What was measured, or found in the journal.
        sae_outcomes: The same of SAEs.
        rows: Rows that other processes of the run sent.
        verdicts: (method, layer) -> what became of the claim.
        is_empty_part: Whether tests were selected, and none of them is left for this shard.
        refusal: Why none of the selected tests can be run, or an empty string.
        was_stopped: Whether an error ended another process of the run.
        has_lost_process: Whether another process ended without a word.
        exit_status: Of the process, when it is decided.
    """

    request: Request
    cells: list[Cell] = field(default_factory=list)
    sae_layers: list[int] = field(default_factory=list)
    deselected: set[tuple[str, int]] = field(default_factory=set)
    obstacles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    sae_outcomes: list[SaeOutcome] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    verdicts: dict[tuple[str, int], str] = field(default_factory=dict)
    is_empty_part: bool = False
    refusal: str = ""
    was_stopped: bool = False
    has_lost_process: bool = False
    exit_status: int = 0

    def select(self, cells: list[Cell], sae_layers: list[int]) -> None:
        """Note which tests pytest selected, and which cells were thereby left out on purpose."""
        request = self.request
        self.cells, self.sae_layers = cells, sae_layers
        self.deselected = {(cell.method, cell.layer) for cell in set(request.cells) - set(cells)}
        if request.baseline is not None and request.layers_were_chosen:
            self.deselected |= {cell.key for cell in request.baseline.cells if cell.layer not in request.layers}

    def take_selection(self, cells: list[list[Any]], sae_layers: list[int], deselected: list[list[Any]]) -> None:
        """Note what another process of the run selected."""
        self.cells = [Cell(*cell) for cell in cells]
        self.sae_layers = sae_layers
        self.deselected |= {(method, layer) for method, layer in deselected}

    def read_lost_rows(self) -> None:
        """Take what a process that ended without a word had written, or taken over from an earlier run."""
        if not self.has_lost_process or not journal_file(self.request.results).is_file():
            return
        places = {(cell.method, cell.layer) for cell in with_controls(self.request.setting.profile, self.cells)}
        places |= {(UNSTEERED, None), *((SAE, layer) for layer in self.sae_layers)}
        written = [row for row in load_rows(self.request.results) if (row.method, row.layer) in places]
        self.rows += [row for row in written if self.request.resumes or row.run == self.request.name]

    @property
    def all_rows(self) -> list[Row]:
        """Rows of all outcomes, each once."""
        own = [row for outcome in (*self.outcomes, *self.sae_outcomes) for row in outcome.rows]
        return list({row.key: row for row in (*own, *self.rows)}.values())

    @property
    def _gates_something(self) -> bool:
        """Whether a cell of the baseline was selected: to compare nothing is to pass always. A shard may have none."""
        baseline = self.request.baseline
        held = [] if baseline is None else [cell.key for cell in baseline.cells]
        return not held or self.request.shard is not None or not self.deselected.issuperset(held)

    def obstacles_on(self, model: LanguageModel) -> list[str]:
        """Why nothing that is measured on a model could be compared with the baseline, if there is one."""
        if self.request.baseline is None:
            return []
        row = blank_row(self.request.setting, model, self.request.name)
        return obstacles(self.request.baseline, row) + self._other_doses(self.request.baseline)

    def _other_doses(self, baseline: Baseline) -> list[str]:
        """In what all selected cells of a baseline are to have another dose, or nothing where one has the same."""
        profile, planned = self.request.setting.profile, {(cell.method, cell.layer): cell for cell in self.cells}
        held = [cell for cell in baseline.cells if cell.key in planned]
        found = [dose_difference(profile, planned[cell.key], cell) for cell in held]
        return list(dict.fromkeys(found)) if all(found) else []

    def check_selection(self) -> None:
        """Refuse what the selected tests cannot be run with, before a model is loaded, and make the journal.

        Raises:
            SteeringError: The gate compares none of them, a method learns from documents that the run uses for
                something else, or results cannot be written.
        """
        if not self._gates_something:
            raise ResultsError("--gate: none of the selected tests is in its baseline")
        self._check_training()
        Journal(self.request.results)

    def _check_training(self) -> None:
        setting = self.request.setting
        cells = with_controls(setting.profile, self.cells)
        plans = [plan for cell in cells for plan in plans_of(setting.profile, cell.method)]
        if any(needs_losses(plan.method) for plan in plans):
            setting.load_training_documents()

    def check_vectors(self, model: LanguageModel) -> None:
        """Refuse vectors from files that do not fit a model, and note those that were made on another."""
        selected = {cell.method for cell in with_controls(self.request.setting.profile, self.cells)}
        for file in self.request.vectors:
            if file.stem in selected:
                vector = load_fitting(file, model.d_model, model.name)
                if differing := model_difference(vector, model):
                    self.notes.append(f"{file.name} was {differing}.")
