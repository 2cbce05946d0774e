"""Doses by budget: the largest multiplier of the grid that neutral text bears."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.concept_files import load_concept
from steering.errors import DataError, NonFiniteError, VectorError
from steering.journal import Journal, load_rows
from steering.methods import construct
from steering.models.continuation_losses import ContinuationLosses
from steering.models.tokens import tokenize_document
from steering.neutral import NeutralSet, load_neutral
from steering.profiles import MethodPlan, Profile
from steering.progress import Silent
from steering.settings import Setting
from steering.sweeps import construction
from steering.sweeps.cells import Cell
from steering.sweeps.doses import Budget, DoseFinder
from steering.sweeps.sweep import Sweep
from steering.vectors import Intervention, SteeringVector

GRID = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
DEVELOPMENT = NeutralSet("n", ("The train was late, and so were we all.", "Salt the water before the pasta goes in."))
PLANS = (
    MethodPlan("mean_difference", 2.0),
    MethodPlan("flipped", -3.0, "mean_difference", is_control=True),
    MethodPlan("scaled", 5.0, "random_direction", norm_of="mean_difference"),
    MethodPlan("nothing", 0.0, "mean_difference"),
)
PROFILE = Profile("test", "", "m", "c", "n", PLANS, rollouts=4, new_tokens=3, neutral_prompt_tokens=4, doses=GRID)


class _Growing:
    """Losses that a factor raises by a known rule."""

    def __init__(self, changes: dict[float, float]) -> None:
        self.changes = changes
        self.asked: list[float] = []

    def measure(self, interventions, _progress=None):
        factor = interventions[0].multiplier if interventions[0] else 0.0
        self.asked.append(factor)
        return np.array([[1.0, 3.0]]) + self.changes.get(factor, 0.0)


def finder(model, changes: dict[float, float], budget: float) -> DoseFinder:
    found = DoseFinder(model, [tokenize_document(model.tokenizer, "One two three four five.", 2, 3)],
                       Budget(budget, GRID), Silent())  # fmt: skip
    found._losses = _Growing(changes)
    found._unsteered = np.array([1.0, 3.0])
    return found


@given(steps=st.lists(st.floats(0.001, 1), min_size=6, max_size=6), budget=st.floats(0.002, 3))
def test_dose_is_the_largest_that_keeps_the_budget(llama, steps, budget):
    changes = dict(zip(GRID, np.cumsum(steps).tolist(), strict=True))
    unit = Intervention(SteeringVector(torch.ones(llama.d_model), 0, "m", "c", llama.name), 1.0)
    keeping = [factor for factor in GRID if (np.array([1.0, 3.0]) + changes[factor] - [1.0, 3.0]).mean() <= budget]
    search = finder(llama, changes, budget)
    if not keeping:
        with pytest.raises(VectorError, match=r"already 0.5 times the vector .* beyond the budget"):
            search.find(unit)
        return
    dose = search.find(unit)
    assert dose.factor == keeping[-1]
    assert dose.change == pytest.approx(changes[dose.factor])
    assert len(search._losses.asked) <= 3


class _Overflowing(_Growing):
    """Losses that overflow from some factor on."""

    def __init__(self, first: float) -> None:
        super().__init__({})
        self.first = first

    def measure(self, interventions, _progress=None):
        if interventions[0].multiplier >= self.first:
            raise NonFiniteError("a loss is inf")
        return super().measure(interventions)


def test_dose_that_overflows_is_beyond_every_budget(llama):
    unit = Intervention(SteeringVector(torch.ones(llama.d_model), 0, "m", "c", llama.name), 1.0)
    search = finder(llama, {}, 0.5)
    search._losses = _Overflowing(4.0)
    assert search.find(unit).factor == 2.0
    search._losses = _Overflowing(0.5)
    with pytest.raises(
        NonFiniteError, match=r"steering vector m-layer0: a loss is NaN or infinite already at 0.5 times"
    ):
        search.find(unit)


@pytest.fixture
def setting(concept_directory: Path, neutral_file: Path) -> Setting:
    profile = dataclasses.replace(PROFILE, neutral_budget=0.02)
    neutral = load_neutral(str(neutral_file), 4)
    return Setting(profile, load_concept(str(concept_directory)), neutral, DEVELOPMENT)


def development_change(model, intervention: Intervention, factor: float) -> float:
    """By the losses alone, without the finder."""
    texts = [tokenize_document(model.tokenizer, text, 4, 64) for text in DEVELOPMENT.documents]
    raised = Intervention(intervention.vector, intervention.multiplier * factor)
    losses = ContinuationLosses(model, texts).measure([None, raised])
    return float((losses[1] - losses[0]).mean())


@pytest.mark.parametrize("plan", PLANS[:3], ids=lambda plan: plan.name)
def test_cells_are_measured_at_the_dose_of_the_development_documents(llama, setting, tmp_path, plan):
    cell = Cell(plan.name, 1, plan.multiplier)
    sweep = Sweep(setting, llama, Journal(tmp_path), [cell], run="test")
    sweep.measure(cell)
    row = next(row for row in load_rows(tmp_path) if row.method == plan.name)
    planned = sweep.intervention(cell)
    unit = Intervention(planned.vector, planned.multiplier / abs(plan.multiplier))
    factor = row.multiplier / unit.multiplier
    assert min(abs(factor - each) for each in GRID) < 1e-9
    assert row.parameters["neutral_budget"] == 0.02
    assert row.parameters["development_hash"] == DEVELOPMENT.hash
    assert row.parameters["development_loss_change"] == pytest.approx(development_change(llama, unit, factor), abs=1e-6)
    assert row.parameters["development_loss_change"] <= 0.02
    larger = [each for each in GRID if each > factor + 1e-9]
    assert not larger or development_change(llama, unit, larger[0]) > 0.02


def test_vector_that_breaks_the_smallest_budget_fails_with_its_reason(llama, setting, tmp_path):
    tight = dataclasses.replace(
        setting, profile=dataclasses.replace(setting.profile, neutral_budget=1e-9, doses=(64.0,))
    )
    cell = Cell("mean_difference", 0, 2.0)
    outcome = Sweep(tight, llama, Journal(tmp_path), [cell], run="test").measure(cell)
    assert any("beyond the budget of 1e-09" in reason for reason in outcome.failures)
    assert {row.parameters["neutral_budget"] for row in outcome.rows} == {1e-9}, "a cell without budget is another"


def test_documents_that_doses_cannot_be_found_by_end_the_run_at_once(llama, setting, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise NonFiniteError("the loss of text 2 is nan")

    monkeypatch.setattr(construction, "DoseFinder", refuse)
    sweep = Sweep(setting, llama, Journal(tmp_path), [Cell("mean_difference", 0, 2.0)], run="test")
    with pytest.raises(NonFiniteError, match="the loss of text 2 is nan"):
        sweep.begin()


def test_vector_that_several_plans_use_is_constructed_once(llama, setting, tmp_path, monkeypatch):
    made = []

    def counted(name, activations, layer, parameters):
        made.append((name, layer))
        return construct(name, activations, layer, parameters)

    monkeypatch.setattr(construction, "construct", counted)
    sweep = Sweep(
        setting, llama, Journal(tmp_path), [Cell(plan.name, 0, plan.multiplier) for plan in PLANS], run="test"
    )
    for plan in PLANS:
        assert not sweep.measure(Cell(plan.name, 0, plan.multiplier)).failures
    assert sorted(made) == [("mean_difference", 0), ("random_direction", 0)]


def test_dose_of_0_stays_0(llama, setting, tmp_path):
    cell = Cell("nothing", 0, 0.0)
    outcome = Sweep(setting, llama, Journal(tmp_path), [cell], run="test").measure(cell)
    assert {row.multiplier for row in outcome.rows} == {0.0}
    assert not any("neutral_budget" in row.parameters for row in outcome.rows)
    assert outcome.scores["loss_change_neutral"].value == 0


def test_budget_without_development_documents_is_refused(setting):
    with pytest.raises(DataError, match="a neutral_budget needs development documents"):
        dataclasses.replace(setting, development=None)


def test_splits_of_a_setting_share_nothing(concept_directory, tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"text": "Document {number} is about something."}}\n' for number in range(9)))
    toml = concept_directory / "concept.toml"
    toml.write_text('development_prompts = ["In the old days"]\n' + toml.read_text(encoding="utf-8"), encoding="utf-8")
    profile = dataclasses.replace(
        PROFILE, concept=str(concept_directory), neutral=str(path), neutral_documents=5, development_documents=3
    )
    test, development = (Setting.load(dataclasses.replace(profile, split=split)) for split in ("test", "development"))
    dosed = Setting.load(dataclasses.replace(profile, neutral_budget=0.1))
    assert [len(test.neutral.documents), len(development.neutral.documents)] == [5, 3]
    assert not set(test.neutral.documents) & set(development.neutral.documents)
    assert dosed.neutral == test.neutral
    assert dosed.development == development.neutral
    assert not set(test.concept.rollout_prompts) & set(development.concept.rollout_prompts)
    assert not set(test.concept.test) & set(development.concept.test)
    assert test.profile.stream != development.profile.stream
    assert development.profile.measurement["split"] == "development"
    assert test.data_hash != development.data_hash
