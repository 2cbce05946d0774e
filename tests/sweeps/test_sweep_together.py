"""Cells that are measured together, against cells that are measured alone."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from steering.activations import ContrastActivations
from steering.errors import NonFiniteError
from steering.journal import Journal, load_rows
from steering.methods import methods
from steering.metrics.losses import LossChange
from steering.metrics.rollouts import RolloutProbability
from steering.models.language_model import LanguageModel
from steering.profiles import MethodPlan, Profile
from steering.results import Row
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.sweep import Sweep

PLANS = (
    MethodPlan("mean_difference", 2.0, control="random_direction"),
    MethodPlan("random_direction", 3.0, parameters={"seed": 3}),
    MethodPlan("stronger", -4.0, "mean_difference", control="random_direction"),
)
PROFILE = Profile("test", "", "m", "c", "n", PLANS, rollouts=6, new_tokens=5, neutral_prompt_tokens=4)
CELLS = tuple(Cell(plan.name, layer, plan.multiplier) for layer in (0, 1) for plan in PLANS)
HUGE = Cell("stronger", 0, 1e100)  # finite as a number, but not in float32


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / f"results-{number}" for number in itertools.count())


def sweep_of(setting: Setting, model: LanguageModel, directory: Path, cells: Sequence[Cell] = CELLS) -> Sweep:
    return Sweep(setting, model, Journal(directory), cells, run="test")


def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageModel, "rows_together", lambda *_: 1)


def rows_by_cell(sweep: Sweep) -> dict[Cell | None, tuple[Row, ...]]:
    return {outcome.cell: outcome.rows for outcome in sweep.outcomes}


def interventions_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many interventions each call to the rollouts metric is given, from now on."""
    observe, seen = RolloutProbability.observe, []

    def counted(metric, interventions, progress):
        seen.append(len(interventions))
        return observe(metric, interventions, progress)

    monkeypatch.setattr(RolloutProbability, "observe", counted)
    return seen


def test_cells_measured_together_equal_cells_measured_alone(any_model, setting, directories, monkeypatch):
    seen = interventions_seen(monkeypatch)
    together = sweep_of(setting, any_model, next(directories))
    together.measure(CELLS[0])
    assert seen == [1, 6], "the unsteered run, and all cells"
    one_at_a_time(monkeypatch)
    for cell in CELLS:
        alone = sweep_of(setting, any_model, next(directories), [cell])
        alone.measure(cell)
        for measured, rows in rows_by_cell(alone).items():
            assert rows == rows_by_cell(together)[measured]
    assert max(seen[2:]) == 2, "a cell and its control"


@pytest.mark.parametrize("order", [(5, 0, 3, 1, 4, 2), (2, 5, 1, 4, 0, 3), (3, 4, 5, 0, 1, 2)])
@pytest.mark.parametrize("rows", [1, 20, 10_000])
def test_cells_asked_for_in_any_order_give_the_same_rows(llama, setting, directories, monkeypatch, order, rows):
    monkeypatch.setattr(LanguageModel, "rows_together", lambda *_: rows)
    straight, moved = (sweep_of(setting, llama, next(directories)) for _ in range(2))
    expected = [straight.measure(cell).rows for cell in CELLS]
    found = {index: moved.measure(CELLS[index]).rows for index in order}
    assert [found[index] for index in range(len(CELLS))] == expected
    assert len(moved.outcomes) == len(CELLS) + 1


@pytest.mark.parametrize(("rows", "expected"), [(13, [2, 2, 2]), (24, [4, 2]), (90, [6])])
def test_as_many_cells_are_measured_together_as_fit(llama, setting, tmp_path, monkeypatch, rows, expected):
    monkeypatch.setattr(LanguageModel, "rows_together", lambda *_: rows)
    sweep = sweep_of(setting, llama, tmp_path)
    assert sweep.unsteered.failures == []
    seen = interventions_seen(monkeypatch)
    for cell in CELLS:
        sweep.measure(cell)
    assert seen == expected


def test_control_is_measured_with_its_cell_also_where_memory_holds_one(llama, setting, tmp_path, monkeypatch):
    one_at_a_time(monkeypatch)
    sweep = sweep_of(setting, llama, tmp_path)
    sweep.measure(CELLS[3])
    assert [outcome.cell for outcome in sweep.outcomes] == [None, CELLS[4], CELLS[3]]


def test_memory_is_asked_for_rollouts_of_the_longest_prompt(llama, setting, tmp_path, monkeypatch):
    asked = []

    def rows_together(_model, length):
        asked.append(length)
        return 60

    monkeypatch.setattr(LanguageModel, "rows_together", rows_together)
    prompts = [len(llama.tokenizer(text)["input_ids"]) for text in setting.concept.rollout_prompts]
    assert sweep_of(setting, llama, tmp_path)._together == 10
    assert asked == [max(prompts) + PROFILE.new_tokens]
    assert len(set(prompts)) == 2


def test_cell_that_is_not_finite_fails_alone(any_model, setting, directories):
    cells = (*CELLS[:3], HUGE, *CELLS[3:])
    directory = next(directories)
    beside = sweep_of(setting, any_model, directory, cells)
    without = sweep_of(setting, any_model, next(directories), CELLS)
    outcome = beside.measure(HUGE)
    beside.measure(CELLS[0])
    assert outcome.scores == {}
    assert {row.status for row in outcome.rows} == {"failed"}
    assert any("the logits hold NaN or infinity" in reason for reason in outcome.failures)
    assert any("is nan" in reason or "is inf" in reason for reason in outcome.failures)
    for cell in CELLS:
        assert beside.measure(cell).rows == without.measure(cell).rows
    load_rows(directory)


@dataclasses.dataclass(frozen=True)
class OfTheBlockBelow:
    """Asks for activations that are there only where other cells need them, too."""

    def fit(self, activations: ContrastActivations, layer: int) -> torch.Tensor:
        positive, negative = activations.at(layer - 1)
        return (positive - negative).mean(dim=0)


def test_method_that_fails_by_a_message_of_the_library_fails_alone(llama, setting, directories, monkeypatch):
    methods["mean_difference"]
    monkeypatch.setitem(methods._entries, "own", OfTheBlockBelow)
    profile = dataclasses.replace(PROFILE, methods=(*PLANS, MethodPlan("own", 1.0)))
    sweep = sweep_of(
        dataclasses.replace(setting, profile=profile), llama, next(directories), (Cell("own", 0, 1.0), *CELLS)
    )
    assert "layer" in sweep.measure(Cell("own", 0, 1.0)).failures[0]
    assert sweep.measure(CELLS[0]).failures == []


def test_control_that_is_not_finite_leaves_its_cells_without_that_test(llama, setting, tmp_path):
    plans = (PLANS[0], dataclasses.replace(PLANS[1], multiplier=1e100), PLANS[2])
    broken = dataclasses.replace(setting, profile=dataclasses.replace(PROFILE, methods=plans))
    outcome = sweep_of(broken, llama, tmp_path, CELLS[:1]).measure(CELLS[0])
    assert outcome.failures == []
    assert outcome.scores["rollout_probability"].p_value is not None
    assert outcome.scores["rollout_probability"].p_control is None


def test_metric_that_fails_under_one_intervention_fails_for_that_cell_alone(llama, setting, directories, monkeypatch):
    plain = sweep_of(setting, llama, next(directories))
    plain.measure(CELLS[0])
    observe = LossChange.observe

    def fail(metric, interventions, progress):
        if metric.kind == "neutral" and any(each is not None and each.multiplier == -4.0 for each in interventions):
            raise NonFiniteError("the loss of text 2 is nan")
        return observe(metric, interventions, progress)

    monkeypatch.setattr(LossChange, "observe", fail)
    failing = sweep_of(setting, llama, next(directories))
    failing.measure(CELLS[0])
    expected = rows_by_cell(plain)
    for cell, rows in rows_by_cell(failing).items():
        if cell is None or cell.method != "stronger":
            assert rows == expected[cell]
            continue
        for row, other in zip(rows, expected[cell], strict=True):
            if row.metric in ("loss_neutral", "loss_change_neutral"):
                assert (row.status, row.reason, row.value) == ("failed", "the loss of text 2 is nan", None)
            else:
                assert row == other


def test_rows_are_written_cell_by_cell_in_the_order_of_the_plan(llama, setting, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, [CELLS[3], CELLS[0], CELLS[2]])
    sweep.measure(CELLS[0])
    written = dict.fromkeys((row.method, row.layer) for row in load_rows(tmp_path))
    assert list(written) == [
        ("unsteered", None),
        ("random_direction", 0), ("mean_difference", 0), ("stronger", 0),
        ("random_direction", 1), ("mean_difference", 1),
    ]  # fmt: skip


def test_seconds_of_cells_measured_together_are_shared(llama, setting, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path)
    sweep.measure(CELLS[0])
    steered = [outcome.evaluation_seconds for outcome in sweep.outcomes if outcome.cell is not None]
    assert len(steered) == 6
    assert np.ptp(steered) == 0
    assert steered[0] > 0
