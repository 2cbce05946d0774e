"""Measuring cells end to end on small models."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from steering.errors import NonFiniteError, UnknownNameError
from steering.journal import Journal, load_rows
from steering.keywords import Keywords
from steering.metrics.losses import LossChange
from steering.models.language_model import LanguageModel
from steering.profiles import MethodPlan, Profile
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.sweep import Sweep
from tests.small_models import small_model

PLANS = (
    MethodPlan("mean_difference", 2.0, control="random_direction"),
    MethodPlan("random_direction", 3.0, parameters={"seed": 3}),
)
PROFILE = Profile("test", "", "m", "c", "n", PLANS, rollouts=6, new_tokens=5, neutral_prompt_tokens=4)
NEIGHBOURS = (("mean_difference", 0, 2.0), ("random_direction", 1, 3.0), ("mean_difference", 1, 2.0))
NAMES = {
    "rollout_probability", "loss_positive", "loss_change_positive", "loss_negative", "loss_change_negative",
    "loss_neutral", "loss_change_neutral", "one_word_changed", "one_word_success",
}  # fmt: skip


def sweep_of(setting: Setting, model: LanguageModel, directory: Path, layers: tuple[int, ...] = (0, 1)) -> Sweep:
    cells = [Cell("mean_difference", layer, 2.0) for layer in layers]
    return Sweep(setting, model, Journal(directory), cells, run="test")


def test_measured_cell_is_in_the_journal_with_the_unsteered_run_before_it(any_model, setting, tmp_path):
    sweep = sweep_of(setting, any_model, tmp_path / "results")
    outcome = sweep.measure(Cell("mean_difference", 1, 2.0))
    rows = load_rows(tmp_path / "results")
    assert {row.metric for row in rows} == NAMES == set(outcome.scores)
    methods = ("unsteered", "random_direction", "mean_difference")
    assert [row.method for row in rows] == [method for method in methods for _ in NAMES]
    for row in rows:
        assert row.status == "ok"
        assert row.n == len(row.items)
        assert row.value == pytest.approx(np.mean(row.items))
        assert row.low <= row.value <= row.high
        assert row.model_hash == any_model.hash
        assert row.data_hash == setting.data_hash
    steered = rows[-1]
    assert (steered.layer, steered.multiplier, steered.dtype) == (1, 2.0, "float32")
    assert steered.vector_norm > 0
    assert len(steered.vector_hash) == 64
    unsteered = rows[0]
    assert (unsteered.layer, unsteered.multiplier, unsteered.vector_hash) == (None, 0.0, "")


def test_unsteered_run_changes_nothing_against_itself(llama, setting, tmp_path):
    scores = sweep_of(setting, llama, tmp_path).unsteered.scores
    for name in ("loss_change_positive", "loss_change_negative", "loss_change_neutral", "one_word_changed"):
        assert scores[name].items.tolist() == [0.0] * len(scores[name].items)


def test_zero_multiplier_equals_the_unsteered_run_in_every_item(any_model, setting, tmp_path):
    sweep = sweep_of(setting, any_model, tmp_path)
    zero = sweep.measure(Cell("mean_difference", 0, 0.0)).scores
    for name, score in sweep.unsteered.scores.items():
        assert zero[name].items.tolist() == score.items.tolist()
        assert zero[name].texts == score.texts


def test_two_runs_of_one_seed_agree_to_the_last_bit_and_another_seed_differs(llama, setting, tmp_path):
    cell = Cell("mean_difference", 0, 2.0)

    def items(chosen: Setting, name: str, layers: tuple[int, ...]) -> dict[str, tuple[list[float], tuple[str, ...]]]:
        scores = sweep_of(chosen, llama, tmp_path / name, layers).measure(cell).scores
        return {metric: (score.items.tolist(), score.texts) for metric, score in scores.items()}

    first = items(setting, "a", (0, 1))
    assert first == items(setting, "b", (0,)), "which other layers are measured must not matter"
    other = dataclasses.replace(setting, profile=dataclasses.replace(PROFILE, seed=1))
    assert first["rollout_probability"] != items(other, "c", (0,))["rollout_probability"]


def test_only_the_layers_of_the_cells_are_captured(llama, setting, tmp_path):
    assert sweep_of(setting, llama, tmp_path, (1,)).activations.layers == (1,)
    assert sweep_of(setting, llama, tmp_path, (1, 0, 1)).activations.layers == (0, 1)


def test_cell_is_measured_and_written_once(llama, setting, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path)
    cell = Cell("random_direction", 0, 3.0)
    outcome = sweep.measure(cell)
    before = (tmp_path / "results.jsonl").read_bytes()
    assert sweep.measure(dataclasses.replace(cell)) is outcome
    assert (tmp_path / "results.jsonl").read_bytes() == before
    neighbours = [sweep.measure(Cell(*named)) for named in NEIGHBOURS]
    assert (tmp_path / "results.jsonl").read_bytes() == before, "the neighbours were measured with it"
    other = sweep.measure(dataclasses.replace(cell, multiplier=4.0))
    assert sweep.outcomes == [sweep.unsteered, outcome, *neighbours, other]


def test_control_is_measured_first_and_once(llama, setting, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path)
    cell, control = Cell("mean_difference", 1, 2.0), Cell("random_direction", 1, 3.0)
    outcome = sweep.measure(cell)
    assert [measured.cell for measured in sweep.outcomes] == [None, control, cell]
    assert sweep.measure(control) is sweep.outcomes[1]
    assert sweep.outcomes[-1] is outcome, "nothing was measured again"
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 * len(NAMES)


def test_p_control_is_the_paired_test_against_the_control_s_rollouts(llama, setting, tmp_path):
    letters = dataclasses.replace(setting.concept, keywords=Keywords(tuple("abcdefghijkl"), ("x",)))
    profile = dataclasses.replace(PROFILE, rollouts=40, new_tokens=12)
    sweep = sweep_of(Setting(profile, letters, setting.neutral), llama, tmp_path)
    sweep.measure(Cell("mean_difference", 0, 2.0))
    rows = {(row.method, row.metric): row for row in load_rows(tmp_path)}
    here, there = (rows[method, "rollout_probability"] for method in ("mean_difference", "random_direction"))
    gained = sum(a > b for a, b in zip(here.items, there.items, strict=True))
    lost = sum(a < b for a, b in zip(here.items, there.items, strict=True))
    assert gained + lost > 0, "otherwise the test would show nothing"
    tail = sum(math.comb(gained + lost, k) for k in range(gained, gained + lost + 1)) / 2 ** (gained + lost)
    assert here.p_control == pytest.approx(tail)
    assert here.p_control != here.p_value
    assert {row.p_control for row in rows.values() if row is not here} == {None}


def test_method_parameters_reach_the_vector_and_the_rows(llama, setting, tmp_path):
    outcome = sweep_of(setting, llama, tmp_path).measure(Cell("random_direction", 0, 2.0))
    [vector_hash] = {row.vector_hash for row in outcome.rows}
    assert outcome.rows[0].parameters == {"seed": 3, "construction": "random_direction"}
    assert load_rows(tmp_path)[-1].parameters == {"seed": 3, "construction": "random_direction"}
    plans = (PLANS[0], dataclasses.replace(PLANS[1], parameters={"seed": 4}))
    other = dataclasses.replace(setting, profile=dataclasses.replace(PROFILE, methods=plans))
    changed = sweep_of(other, llama, tmp_path / "other").measure(Cell("random_direction", 0, 2.0))
    assert changed.rows[0].vector_hash != vector_hash


def test_direction_is_reversed_with_the_sides(llama, setting, tmp_path):
    reverse = dataclasses.replace(setting, concept=setting.concept.reversed())
    vectors = []
    for index, chosen in enumerate((setting, reverse)):
        sweep = sweep_of(chosen, llama, tmp_path / str(index))
        positive, negative = sweep.activations.at(0)
        vectors.append((positive - negative).mean(dim=0))
        assert sweep.measure(Cell("mean_difference", 0, 1.0)).rows[0].toward == chosen.concept.toward
    torch.testing.assert_close(vectors[0], -vectors[1])


def test_concept_without_one_word_prompts_skips_that_metric_with_the_reason(llama, setting, tmp_path):
    bare = dataclasses.replace(setting, concept=dataclasses.replace(setting.concept, one_word_prompts=()))
    outcome = sweep_of(bare, llama, tmp_path).measure(Cell("random_direction", 0, 1.0))
    skipped = [row for row in load_rows(tmp_path) if row.status == "skipped"]
    assert {row.metric for row in skipped} == {"one_word_changed", "one_word_success"}
    assert {row.reason for row in skipped} == {"the concept has no one_word_prompts"}
    assert outcome.failures == []


def test_metric_that_there_is_not_is_refused_where_nobody_checked_the_plan(llama, setting, tmp_path):
    plan = dataclasses.replace(setting.profile.methods[0], control="", claimed_layers=(), metrics=("rollout",))
    profile = dataclasses.replace(setting.profile, methods=(plan,))
    sweep = sweep_of(dataclasses.replace(setting, profile=profile), llama, tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown metric 'rollout'. Did you mean 'rollouts'?"):
        sweep.measure(Cell(plan.name, 0, 1.0))


def test_metric_that_fails_leaves_the_others_measured(llama, setting, tmp_path, monkeypatch):
    measured = LossChange.observe

    def fail(metric: LossChange, *arguments: object) -> object:
        if metric.kind == "neutral":
            raise NonFiniteError("the loss of text 2 is nan")
        return measured(metric, *arguments)

    sweep = sweep_of(setting, llama, tmp_path)
    assert sweep.unsteered.failures == []
    monkeypatch.setattr(LossChange, "observe", fail)
    outcome = sweep.measure(Cell("random_direction", 0, 1.0))
    assert outcome.failures == ["the loss of text 2 is nan"]
    failed = [row for row in load_rows(tmp_path) if row.status == "failed"]
    assert [(row.metric, row.value, row.n) for row in failed] == [
        ("loss_neutral", None, 0),
        ("loss_change_neutral", None, 0),
    ]
    assert set(outcome.scores) == NAMES - {"loss_neutral", "loss_change_neutral"}


def test_broken_model_is_reported_before_anything_is_measured(setting, tmp_path):
    model = small_model("gpt2")
    with torch.no_grad():
        model.module.transformer.h[0].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match="output of block 0"):
        sweep_of(setting, model, tmp_path).measure(Cell("mean_difference", 0, 1.0))
