"""Measuring cells whose vectors are made of SAE features, scaled to another's norm, or cannot be made at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from steering.errors import SaeError
from steering.journal import Journal, load_rows
from steering.models.language_model import LanguageModel
from steering.neutral import load_neutral
from steering.profiles import MethodPlan, Profile
from steering.sae.library import SaeLibrary, open_library
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.plans import at_equal_norm
from steering.sweeps.sweep import Sweep
from tests.small_saes import load_small, numpy_weights, write_sae

PLANS = (
    MethodPlan("mean_difference", 2.0),
    MethodPlan("delta", 0.5, "feature_delta", {"top": 30}, control="other features"),
    MethodPlan("other features", 0.5, "random_features", {"reference": "feature_delta", "parameters": {"top": 30}}),
    MethodPlan("hand_crafted", 3.0),
    MethodPlan("scaled", 2.0, "feature_delta", {"top": 30}, norm_of="mean_difference"),
)
PROFILE = Profile("test", "", "m", "c", "n", PLANS, rollouts=4, new_tokens=3, neutral_prompt_tokens=4)


@pytest.fixture
def saes(tmp_path: Path) -> Path:
    """SAEs of both blocks; the features of block 1 are described."""
    for layer in (0, 1):
        directory = write_sae(tmp_path / "saes" / f"{layer}", hook_name=f"blocks.{layer}.hook_resid_post", seed=layer)
    records = [{"feature": k, "description": "a king" if k in (5, 9) else f"word {k}"} for k in range(64)]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (directory / "descriptions.jsonl").write_text(text, encoding="utf-8")
    return tmp_path / "saes"


def cell(name: str, layer: int = 1) -> Cell:
    return Cell(name, layer, PROFILE.plan(name).multiplier)


def sweep_of(
    setting: Setting, model: LanguageModel, directory: Path, saes: SaeLibrary | Path | None, *cells: Cell
) -> Sweep:
    library = open_library(str(saes)) if isinstance(saes, Path) else saes
    return Sweep(setting, model, Journal(directory), cells, run="test", saes=library)


def rows_of(directory: Path, method: str) -> list:
    return [row for row in load_rows(directory) if row.method == method]


def mean_difference(sweep: Sweep, layer: int) -> np.ndarray:
    positive, negative = (side.double().numpy() for side in sweep.activations.at(layer))
    return positive.mean(axis=0) - negative.mean(axis=0)


def test_features_of_a_vector_are_in_its_rows_heaviest_first(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("delta"))
    sweep.measure(cell("delta"))
    sides = [
        side["mean"].toarray().astype(float)
        for side in (sweep.activations.features_at(1).positive, sweep.activations.features_at(1).negative)
    ]
    change = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    order = np.argsort(-np.abs(change))
    [shown] = {row.features for row in rows_of(tmp_path, "delta")}
    assert [entry.feature for entry in shown] == order[:20].tolist()
    assert [entry.weight for entry in shown] == pytest.approx(change[order[:20]], rel=1e-4)
    assert [entry.description for entry in shown] == ["a king" if k in (5, 9) else f"word {k}" for k in order[:20]]
    added = change[order[:30]] @ numpy_weights(saes / "1")["W_dec"][order[:30]]
    [norm] = {row.vector_norm for row in rows_of(tmp_path, "delta")}
    assert norm == pytest.approx(np.linalg.norm(added), rel=1e-4)


def test_chosen_features_are_those_described_by_the_concept_s_words(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("hand_crafted"))
    outcome = sweep.measure(cell("hand_crafted"))
    assert {entry.feature for entry in outcome.rows[0].features} <= {5, 9}
    assert {entry.description for entry in outcome.rows[0].features} == {"a king"}


def test_vectors_that_are_no_sum_of_features_have_none_in_their_rows(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("mean_difference"), cell("delta"))
    sweep.measure(cell("mean_difference"))
    assert {row.features for row in rows_of(tmp_path, "mean_difference") + rows_of(tmp_path, "unsteered")} == {()}


def test_control_of_features_is_measured_with_as_many_of_them(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("delta"))
    sweep.measure(cell("delta"))
    [shown], [drawn] = ({row.features for row in rows_of(tmp_path, name)} for name in ("delta", "other features"))
    assert [entry.weight for entry in drawn] == [entry.weight for entry in shown]
    assert not {entry.feature for entry in drawn} & {entry.feature for entry in shown}


@pytest.mark.parametrize("layer", [0, 1])
def test_plan_scaled_to_another_s_norm_adds_a_vector_of_that_norm(llama, setting, saes, tmp_path, layer):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("scaled", layer))
    sweep.measure(cell("scaled", layer))
    expected = 2.0 * np.linalg.norm(mean_difference(sweep, layer))
    for row in rows_of(tmp_path, "scaled"):
        assert row.multiplier * row.vector_norm == pytest.approx(expected, rel=1e-5)
        assert row.multiplier != pytest.approx(2.0, rel=0.01), "the norms must differ for the test to show anything"
    added = sweep.intervention(cell("scaled", layer)).addition
    assert float(added.norm()) == pytest.approx(expected, rel=1e-5)


def test_scaling_leaves_the_vector_itself_as_it_is(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("delta"), cell("scaled"))
    plain, scaled = (sweep.intervention(cell(name)) for name in ("delta", "scaled"))
    assert plain.vector.hash == scaled.vector.hash
    assert plain.multiplier == 0.5
    assert (scaled.addition * plain.addition > 0).any()
    torch.testing.assert_close(scaled.addition / scaled.multiplier, plain.addition / plain.multiplier)


def test_at_equal_norm_every_vector_adds_the_same_length(llama, setting, saes, tmp_path):
    equal = dataclasses.replace(setting, profile=at_equal_norm(PROFILE))
    cells = [Cell(plan.name, 1, plan.multiplier) for plan in equal.profile.methods]
    sweep = sweep_of(equal, llama, tmp_path, saes, *cells)
    expected = 2.0 * np.linalg.norm(mean_difference(sweep, 1))
    lengths = [float(sweep.intervention(one).addition.norm()) for one in cells]
    assert lengths == pytest.approx([expected] * len(PLANS), rel=1e-5)


def test_vector_that_cannot_be_made_fails_with_its_reason_and_the_sweep_goes_on(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("hand_crafted", 0), cell("mean_difference", 0))
    outcome = sweep.measure(cell("hand_crafted", 0))
    [reason] = outcome.failures
    assert reason.startswith("no feature's description holds any of 'king', 'man', 'queen', 'woman'")
    assert outcome.scores == {}
    rows = rows_of(tmp_path, "hand_crafted")
    assert {row.metric for row in rows} == set(sweep.unsteered.scores)
    assert {(row.status, row.reason, row.value, row.layer, row.multiplier) for row in rows} == {
        ("failed", reason, None, 0, 3.0)
    }
    assert sweep.measure(cell("mean_difference", 0)).failures == []
    assert sweep.measure(cell("hand_crafted", 0)) is outcome


def test_vector_of_no_length_cannot_be_scaled(llama, setting, tmp_path):
    silent = write_sae(tmp_path / "saes" / "1", weights={"b_enc": torch.full((64,), -1e6)})
    sweep = sweep_of(setting, llama, tmp_path, silent, cell("scaled"), cell("mean_difference"))
    outcome = sweep.measure(cell("scaled"))
    assert outcome.failures == [
        "steering vector feature_delta-layer1: its norm is 0, so that it cannot be scaled to that of mean_difference"
    ]
    assert sweep.measure(cell("mean_difference")).failures == []


def test_method_whose_control_fails_is_measured_without_that_test(llama, setting, saes, tmp_path):
    plans = (dataclasses.replace(PLANS[1], control="hand_crafted"), PLANS[3])
    profile = dataclasses.replace(PROFILE, methods=plans)
    sweep = sweep_of(dataclasses.replace(setting, profile=profile), llama, tmp_path, saes, cell("delta", 0))
    outcome = sweep.measure(cell("delta", 0))
    assert outcome.failures == []
    assert outcome.scores["rollout_probability"].p_value is not None
    assert outcome.scores["rollout_probability"].p_control is None
    assert {row.status for row in rows_of(tmp_path, "hand_crafted")} == {"failed"}


def test_method_that_reads_saes_where_none_are_named_is_one_message(llama, setting, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, None, cell("delta"))
    with pytest.raises(SaeError, match="profile 'test': a method reads SAEs, and 'saes' names none"):
        sweep.measure(cell("delta"))


def test_layer_without_an_sae_is_reported_before_anything_is_measured(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes / "1", cell("delta", 0))
    with pytest.raises(SaeError, match="no SAE for layer 0 in '1'; there are SAEs for the layers 1"):
        _ = sweep.activations


def test_saes_are_needed_only_at_the_layers_of_methods_that_read_them(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes / "1", cell("mean_difference", 0), cell("delta", 1))
    assert sweep.measure(cell("mean_difference", 0)).failures == []
    assert sweep.measure(cell("delta", 1)).failures == []
    assert set(sweep.activations.features) == {1}
    bare = sweep_of(setting, llama, tmp_path, None, cell("mean_difference", 0))
    assert bare.activations.features == {}


def test_vector_that_cannot_be_made_leaves_skipped_metrics_skipped(llama, setting, saes, tmp_path):
    bare = dataclasses.replace(setting, concept=dataclasses.replace(setting.concept, one_word_prompts=()))
    outcome = sweep_of(bare, llama, tmp_path, saes, cell("hand_crafted", 0)).measure(cell("hand_crafted", 0))
    skipped = {row.metric: row.reason for row in outcome.rows if row.status == "skipped"}
    assert skipped == dict.fromkeys(("one_word_changed", "one_word_success"), "the concept has no one_word_prompts")
    failed = {row.reason for row in outcome.rows if row.status == "failed"}
    assert len(outcome.rows) > len(skipped)
    assert [reason[:40] for reason in failed] == ["no feature's description holds any of 'k"]
    assert outcome.failures == list(failed)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_vectors_that_can_be_made_are_measured_beside_one_that_cannot(llama, setting, saes, tmp_path, failing):
    names = ["mean_difference", "delta"]
    names.insert(failing, "hand_crafted")
    cells = [cell(name, 0) for name in names]
    sweep = sweep_of(setting, llama, tmp_path / "together", saes, *cells)
    for each in cells:
        found = sweep.measure(each)
        assert found.cell == each
        assert bool(found.failures) == (each.method == "hand_crafted")
        alone = sweep_of(setting, llama, tmp_path / each.method, saes, each).measure(each)
        assert found.rows == alone.rows


def test_what_else_a_vector_or_its_norm_was_made_of_is_in_its_rows(llama, setting, saes, neutral_file, tmp_path):
    plans = (
        MethodPlan("delta", 0.5, "feature_delta", {"top": 30}),
        MethodPlan("as long", 2.0, "random_direction", norm_of="delta"),
        MethodPlan("optimized", 1.0, "optimized", {"steps": 1, "batch": 2}),
    )
    training = load_neutral(str(neutral_file), 2, skip=2)
    documents = {"neutral": str(neutral_file), "neutral_documents": 2, "development_documents": 2}
    own = dataclasses.replace(setting, profile=dataclasses.replace(PROFILE, methods=plans, **documents))
    cells = [Cell(plan.name, 1, plan.multiplier) for plan in plans]
    sweep = sweep_of(own, llama, tmp_path, saes, *cells)
    for each in cells:
        sweep.measure(each)
    found = {row.method: row.parameters for row in load_rows(tmp_path)}
    source = {key: found["delta"][key] for key in ("sae", "sae_hash", "hook_name")}
    assert found["as long"]["norm_of"] == {"construction": "feature_delta", "top": 30} | source
    assert found["as long"]["scaled_multiplier"] == 2.0
    assert found["optimized"]["training_hash"] == training.hash
    assert "sae" not in found["as long"] | found["optimized"]
    assert "training_hash" not in found["as long"] | found["delta"]


@pytest.mark.parametrize(
    ("changes", "use"),
    [({"split": "development"}, "the run measures"), ({"neutral_budget": 0.1}, "doses of a budget are chosen")],
)
def test_vector_that_learns_from_documents_is_not_measured_where_they_serve_something_else(
    llama, setting, neutral_file, tmp_path, changes, use
):
    plans = (
        MethodPlan("mean_difference", 1.0),
        MethodPlan("optimized", 1.0, "optimized", {"steps": 1, "batch": 2}),
        MethodPlan("as long", 2.0, "random_direction", norm_of="optimized"),
    )
    development = load_neutral(str(neutral_file), 2, skip=2)
    own = dataclasses.replace(
        setting, profile=dataclasses.replace(PROFILE, methods=plans, **changes), development=development
    )
    cells = [Cell(plan.name, 1, plan.multiplier) for plan in plans]
    sweep = sweep_of(own, llama, tmp_path, None, *cells)
    assert not sweep.measure(cells[0]).failures
    for cell in cells[1:]:
        [reason] = sweep.measure(cell).failures
        assert f"where {use} on the same documents" in reason


@pytest.mark.parametrize("changes", [{"control": "other features"}, {"norm_of": "delta"}])
def test_saes_are_read_where_only_the_control_or_the_norm_needs_them(llama, setting, saes, tmp_path, changes):
    plans = (dataclasses.replace(PLANS[0], **changes), *PLANS[1:])
    profile = dataclasses.replace(PROFILE, methods=plans)
    sweep = sweep_of(dataclasses.replace(setting, profile=profile), llama, tmp_path, saes, cell("mean_difference"))
    assert set(sweep.activations.features) == {1}
    outcome = sweep.measure(cell("mean_difference"))
    assert outcome.failures == []
    if "control" in changes:
        assert outcome.scores["rollout_probability"].p_control is not None
        assert {row.status for row in rows_of(tmp_path, "other features")} == {"ok"}
    else:
        expected = 2.0 * sweep.intervention(cell("delta")).vector.norm
        assert float(sweep.intervention(cell("mean_difference")).addition.norm()) == pytest.approx(expected, rel=1e-5)


def test_rows_say_how_the_vector_was_constructed_and_which_sae_was_read(llama, setting, saes, tmp_path):
    sweep = sweep_of(setting, llama, tmp_path, saes, cell("delta"), cell("mean_difference"))
    sweep.measure(cell("delta"))
    sae = load_small(saes / "1")
    for name, method in (("delta", "feature_delta"), ("other features", "random_features")):
        for row in rows_of(tmp_path, name):
            assert row.parameters["construction"] == method
            assert (row.parameters["sae"], row.parameters["sae_hash"]) == (sae.name, sae.hash)
            assert row.parameters["hook_name"] == "blocks.1.hook_resid_post"
    assert {row.parameters["top"] for row in rows_of(tmp_path, "delta")} == {30}
    for row in rows_of(tmp_path, "mean_difference"):
        assert row.parameters == {"construction": "mean_difference"}
    assert {str(row.parameters) for row in rows_of(tmp_path, "unsteered")} == {"{}"}
