"""A run that goes on where an earlier one ended: it measures nothing twice, and ends as an undisturbed one."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering.journal import FILE_NAME, Journal, load_rows
from steering.metrics.losses import LossChange
from steering.metrics.rollouts import RolloutProbability
from steering.models.language_model import LanguageModel
from steering.profiles import MethodPlan, Profile
from steering.progress import Silent
from steering.results import Row
from steering.sae.library import open_library
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.earlier import Earlier
from steering.sweeps.sae_quality import SaeQuality
from steering.sweeps.sweep import Sweep
from tests.small_models import small_model, small_module, small_tokenizer
from tests.small_rows import measured
from tests.small_saes import write_sae

PLANS = (
    MethodPlan("mean_difference", 2.0, control="random_direction"),
    MethodPlan("random_direction", 3.0, parameters={"seed": 3}),
    MethodPlan("rollouts_alone", -4.0, "mean_difference", metrics=("rollouts",), is_control=True),
)
PROFILE = Profile("test", "", "m", "c", "n", PLANS, rollouts=6, new_tokens=5, neutral_prompt_tokens=4)
CELLS = tuple(Cell(plan.name, layer, plan.multiplier) for layer in (0, 1) for plan in PLANS)


def run(
    setting: Setting, model: LanguageModel, directory: Path, cells: Sequence[Cell] = CELLS, name: str = "again"
) -> Sweep:
    """Measure cells, going on from what the directory holds."""
    journal = Journal(directory)
    sweep = Sweep(setting, model, journal, cells, run=name, earlier=Earlier(load_rows(directory)))
    for cell in cells:
        sweep.measure(cell)
    return sweep


def nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("measured, though it was there")

    for metric in (LossChange, RolloutProbability):
        monkeypatch.setattr(metric, "observe", refuse)


def test_what_is_there_is_not_measured_nor_written_again(any_model, setting, tmp_path, monkeypatch):
    first = run(setting, any_model, tmp_path, name="first")
    before = (tmp_path / FILE_NAME).read_bytes()
    nothing_is_measured(monkeypatch)
    second = run(setting, any_model, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert [outcome.rows for outcome in second.outcomes] == [outcome.rows for outcome in first.outcomes]
    for there, here in zip(first.outcomes, second.outcomes, strict=True):
        assert there.scores.keys() == here.scores.keys()
        for name, score in there.scores.items():
            assert np.array_equal(score.items, here.scores[name].items)
            assert (score.value, score.p_value, score.p_control) == (
                here.scores[name].value, here.scores[name].p_value, here.scores[name].p_control
            )  # fmt: skip


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def test_only_what_is_measured_is_said_to_be(llama, setting, tmp_path):
    def notes() -> list[str]:
        progress = Notes()
        earlier = Earlier(load_rows(tmp_path))
        sweep = Sweep(setting, llama, Journal(tmp_path), CELLS, run="again", earlier=earlier, progress=progress)
        for cell in CELLS:
            sweep.measure(cell)
        return [note for note in progress.said if note.startswith("measuring")]

    run(setting, llama, tmp_path, CELLS[:1])
    [told] = notes()
    assert CELLS[0].id not in told
    assert all(cell.id in told for cell in CELLS[-1:])
    assert notes() == []


def changed(directory: Path, **changes: Any) -> None:
    """Let each row of a journal be as a run of other versions would have written it."""
    rows = [dataclasses.replace(row, **changes) for row in load_rows(directory)]
    (directory / FILE_NAME).write_text("".join(row.to_json() + "\n" for row in rows), encoding="utf-8")


def test_what_other_versions_measured_is_kept_as_theirs(llama, setting, tmp_path, monkeypatch):
    run(setting, llama, tmp_path, name="first")
    changed(tmp_path, versions={"torch": "1.0"})
    before = (tmp_path / FILE_NAME).read_bytes()
    nothing_is_measured(monkeypatch)
    run(setting, llama, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_what_is_only_tested_again_stays_of_the_versions_that_measured_it(llama, setting, tmp_path, monkeypatch):
    run(setting, llama, tmp_path, CELLS[:1], name="first")
    changed(tmp_path, versions={"torch": "1.0"}, p_control=0.123)
    nothing_is_measured(monkeypatch)
    run(setting, llama, tmp_path, CELLS[:1])
    [row] = [
        row for row in load_rows(tmp_path) if row.method == "mean_difference" and row.metric == "rollout_probability"
    ]
    assert (row.run, row.versions, row.p_control != 0.123) == ("again", {"torch": "1.0"}, True)


def with_items(row: Row, *items: float) -> Row:
    """The same measurement, had it come out so."""
    value = float(np.mean(items))
    return dataclasses.replace(row, items=items, value=value, low=min(items), high=max(items), n=len(items))


def test_what_is_there_is_compared_with_the_unsteered_run_that_counts(llama, setting, tmp_path):
    """It was measured again since, and came out otherwise: cells are tested and subtracted anew, and written so."""
    run(setting, llama, tmp_path, CELLS[:1], name="first")
    rows = {(row.method, row.metric): row for row in load_rows(tmp_path)}
    steered, control = ("mean_difference", "rollout_probability"), ("random_direction", "rollout_probability")
    rows[steered] = dataclasses.replace(with_items(rows[steered], *[1.0] * 6), p_value=2**-6)
    rows[control] = with_items(rows[control], *[0.0] * 6)
    (tmp_path / FILE_NAME).write_text("".join(row.to_json() + "\n" for row in rows.values()), encoding="utf-8")
    losses = rows["unsteered", "loss_neutral"]
    again = [with_items(rows["unsteered", "rollout_probability"], *[1.0] * 6)]
    again.append(with_items(losses, *(item + 0.25 for item in losses.items)))
    Journal(tmp_path).append([dataclasses.replace(row, run="second") for row in again])
    outcome = run(setting, llama, tmp_path, CELLS[:1], name="third").measure(CELLS[0])
    success, change = outcome.scores["rollout_probability"], outcome.scores["loss_change_neutral"]
    assert (success.value, success.p_value, success.p_control) == (1.0, 1.0, 2**-6)
    assert outcome.was_measured_earlier
    assert change.value == pytest.approx(rows["mean_difference", "loss_change_neutral"].value - 0.25)
    found = {(row.method, row.metric): row for row in load_rows(tmp_path)}
    assert (found[steered].run, found[steered].p_value) == ("third", 1.0)
    assert found["mean_difference", "loss_change_neutral"].value == pytest.approx(change.value)
    assert found[control].items == (0.0,) * 6


def test_journal_cut_off_anywhere_is_completed_to_the_last_digit(llama, setting, tmp_path):
    run(setting, llama, tmp_path / "whole")
    content = (tmp_path / "whole" / FILE_NAME).read_bytes()
    expected = measured(load_rows(tmp_path / "whole"))
    generator = np.random.default_rng(5)
    for number, cut in enumerate(generator.integers(0, len(content), 12).tolist()):
        directory = tmp_path / f"cut-{number}"
        directory.mkdir()
        (directory / FILE_NAME).write_bytes(content[:cut])
        run(setting, llama, directory)
        assert measured(load_rows(directory)) == expected, cut


def test_only_missing_cells_are_measured(llama, setting, tmp_path):
    run(setting, llama, tmp_path, CELLS[:3], name="first")
    run(setting, llama, tmp_path, CELLS, name="again")
    by = {(row.method, row.layer): row.run for row in load_rows(tmp_path)}
    assert {layer: {run for (_, found), run in by.items() if found == layer} for layer in (None, 0, 1)} == {
        None: {"first"}, 0: {"first"}, 1: {"again"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"top_p": 0.5},
        {"new_tokens": 4},
        {"methods": (dataclasses.replace(PLANS[0], multiplier=2.5), *PLANS[1:])},
        {"methods": (PLANS[0], dataclasses.replace(PLANS[1], parameters={"seed": 4}), PLANS[2])},
        {"methods": (dataclasses.replace(PLANS[0], control=""), *PLANS[1:])},
    ],
)
def test_what_was_measured_otherwise_is_measured_again(llama, setting, tmp_path, changes):
    run(setting, llama, tmp_path, CELLS[:3], name="first")
    other = dataclasses.replace(setting, profile=dataclasses.replace(PROFILE, **changes))
    cells = [Cell(plan.name, 0, plan.multiplier) for plan in other.profile.methods]
    sweep = run(other, llama, tmp_path, cells)
    assert {row.run for outcome in sweep.outcomes for row in outcome.rows} >= {"again"}
    assert len(sweep.outcomes) == 4
    fresh = run(other, llama, tmp_path / "fresh", cells)
    assert measured([row for each in sweep.outcomes for row in each.rows]) == measured(
        [row for each in fresh.outcomes for row in each.rows]
    )


def test_equal_weights_with_another_configuration_are_measured_again(setting, tmp_path):
    first, other = small_model("llama"), small_module("llama")
    other.config.rms_norm_eps = 0.5
    for layer in other.model.layers:
        layer.input_layernorm.variance_epsilon = 0.5
    run(setting, first, tmp_path, CELLS[:1], name="first")
    again = LanguageModel(other, small_tokenizer(), first.name)
    assert again.hash == first.hash
    sweep = run(setting, again, tmp_path, CELLS[:1])
    assert {row.run for outcome in sweep.outcomes for row in outcome.rows} == {"again"}
    fresh = run(setting, again, tmp_path / "fresh", CELLS[:1])
    assert measured([row for each in sweep.outcomes for row in each.rows]) == measured(
        [row for each in fresh.outcomes for row in each.rows]
    )
    assert {row.run for row in load_rows(tmp_path)} == {"first", "again"}, "both are kept"


def test_what_failed_is_measured_again(llama, setting, tmp_path):
    run(setting, llama, tmp_path, CELLS[:1], name="first")
    path = tmp_path / FILE_NAME
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for record in records:
        if record["method"] == "mean_difference" and record["metric"] == "loss_neutral":
            record |= {"status": "failed", "value": None, "low": None, "high": None, "items": [], "n": 0}
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    outcome = run(setting, llama, tmp_path, CELLS[:1]).measure(CELLS[0])
    assert {row.run for row in outcome.rows} == {"again"}
    assert all(row.status == "ok" for row in load_rows(tmp_path))


def test_metrics_that_a_plan_leaves_out_have_no_rows(llama, setting, tmp_path):
    outcome = run(setting, llama, tmp_path, CELLS[2:3]).measure(CELLS[2])
    whole = run(
        dataclasses.replace(
            setting,
            profile=dataclasses.replace(PROFILE, methods=(*PLANS[:2], dataclasses.replace(PLANS[2], metrics=None))),
        ),
        llama,
        tmp_path / "whole",
        CELLS[2:3],
    ).measure(CELLS[2])
    assert set(outcome.scores) == {"rollout_probability"}
    assert [row.metric for row in outcome.rows] == ["rollout_probability"]
    assert np.array_equal(outcome.scores["rollout_probability"].items, whole.scores["rollout_probability"].items)
    assert outcome.rows[0].is_control


def test_quality_of_saes_is_measured_once(llama, setting, tmp_path, monkeypatch):
    write_sae(tmp_path / "saes" / "0", hook_name="blocks.0.hook_resid_post")
    library = open_library(str(tmp_path / "saes"))
    names = itertools.count()

    def quality() -> Any:
        earlier = Earlier(load_rows(tmp_path)) if (tmp_path / FILE_NAME).exists() else None
        measuring = SaeQuality(setting, llama, library, Journal(tmp_path), run=str(next(names)), earlier=earlier)
        return measuring.measure(0)

    first = quality()
    monkeypatch.setattr(SaeQuality, "_scores", None)
    second = quality()
    assert second.rows == first.rows
    assert (first.was_measured_earlier, second.was_measured_earlier) == (False, True)
    assert {name: score.value for name, score in second.scores.items()} == {
        name: score.value for name, score in first.scores.items()
    }
