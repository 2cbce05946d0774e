"""Measuring cells with what follows the prompt steered, too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from steering.concept_files import load_concept
from steering.journal import Journal, load_rows
from steering.models.continuation_losses import ContinuationLosses
from steering.models.sampling import Greedy
from steering.models.tokens import tokenize_continuation, tokenize_documents, tokenize_prompt
from steering.neutral import load_neutral
from steering.profiles import MethodPlan, Profile
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.sweep import Sweep
from steering.vectors import Intervention
from tests.references import reference_greedy, reference_loss

PLANS = (
    MethodPlan("mean_difference", 2.0, control="scaled"),
    MethodPlan("scaled", 1.5, "random_direction", norm_of="mean_difference"),
    MethodPlan("optimized", 1.0, "optimized", {"steps": 2, "batch": 2}),
    MethodPlan("nothing", 0.0, "mean_difference"),
)
BUDGET = 0.05
LAYER = 0


@pytest.fixture
def profile(concept_directory: Path, neutral_file: Path) -> Profile:
    return Profile(
        "test",
        "",
        "m",
        str(concept_directory),
        str(neutral_file),
        PLANS,
        rollouts=6,
        new_tokens=5,
        neutral_prompt_tokens=4,
        neutral_documents=2,
        development_documents=2,
        steered_positions="all",
    )


def measured(profile: Profile, model, directory: Path, method: str) -> tuple[Sweep, dict]:
    """A cell's sweep, and its rows by metric."""
    cell = Cell(method, LAYER, profile.plan(method).multiplier)
    sweep = Sweep(Setting.load(profile), model, Journal(directory), [cell], run="test")
    sweep.measure(cell)
    return sweep, {row.metric: row for row in load_rows(directory) if row.method == method}


@pytest.mark.parametrize("method", ["mean_difference", "scaled"])
def test_scores_are_those_of_a_model_with_a_hook_at_all_positions(any_model, profile, tmp_path, method):
    sweep, rows = measured(profile, any_model, tmp_path, method)
    planned = sweep.intervention(Cell(method, LAYER, profile.plan(method).multiplier))
    everywhere, prompt = (Intervention(planned.vector, planned.multiplier, where) for where in ("all", "prompt"))
    pairs = load_concept(profile.concept).test
    texts = [tokenize_continuation(any_model.tokenizer, pair.prompt, pair.positive) for pair in pairs]
    expected, other = ([reference_loss(any_model, text, each) for text in texts] for each in (everywhere, prompt))
    np.testing.assert_allclose(rows["loss_positive"].items, expected, rtol=1e-4)
    assert not np.allclose(expected, other, rtol=1e-3)
    documents = load_neutral(profile.neutral, 2).documents
    texts = tokenize_documents(any_model.tokenizer, documents, *profile.neutral_lengths)
    expected = [reference_loss(any_model, text, everywhere) for text in texts]
    np.testing.assert_allclose(rows["loss_neutral"].items, expected, rtol=1e-4)
    assert {row.measurement["steered_positions"] for row in rows.values()} == {"all"}


def test_rollouts_are_those_of_a_model_with_a_hook_at_all_positions(any_model, profile, tmp_path):
    greedy = dataclasses.replace(profile, top_p=1e-6)
    sweep, rows = measured(greedy, any_model, tmp_path, "mean_difference")
    planned = sweep.intervention(Cell("mean_difference", LAYER, 2.0))
    prompts = load_concept(profile.concept).rollout_prompts
    ids = [tokenize_prompt(any_model.tokenizer, prompts[index % len(prompts)]) for index in range(profile.rollouts)]
    expected = [reference_greedy(any_model, prompt, planned, profile.new_tokens) for prompt in ids]
    found = [any_model.generate([prompt], [planned], Greedy(), profile.new_tokens)[0] for prompt in ids]
    assert found == expected
    assert planned.positions == "all"
    decode = any_model.tokenizer.decode
    for text, completion in zip(rows["rollout_probability"].texts, expected, strict=True):
        assert decode(completion).startswith(text), "a completion ends early where its keyword is confirmed"


def test_dose_of_nothing_reproduces_the_unsteered_run(any_model, profile, tmp_path):
    sweep, rows = measured(profile, any_model, tmp_path, "nothing")
    for metric, score in sweep.unsteered.scores.items():
        assert rows[metric].items == tuple(score.items)
        assert rows[metric].texts == score.texts


def test_budget_is_kept_where_all_positions_are_steered(llama, profile, tmp_path):
    found = {}
    for where in ("all", "prompt"):
        dosed = dataclasses.replace(profile, steered_positions=where, neutral_budget=BUDGET)
        sweep, rows = measured(dosed, llama, tmp_path / where, "mean_difference")
        row = rows["loss_change_neutral"]
        planned = sweep.intervention(Cell("mean_difference", LAYER, 2.0))
        texts = tokenize_documents(
            llama.tokenizer, load_neutral(profile.neutral, 2, skip=2).documents, *profile.neutral_lengths
        )
        steered = Intervention(planned.vector, row.multiplier, where)
        here, unsteered = ContinuationLosses(llama, texts).measure([steered, None])
        assert row.parameters["development_loss_change"] == pytest.approx(float((here - unsteered).mean()), abs=1e-6)
        found[where] = row
    assert 0 < found["all"].multiplier < found["prompt"].multiplier, "the same damage takes less of it"


def test_optimisation_reads_its_texts_steered_where_they_are_measured(llama, profile, tmp_path):
    vectors = {}
    for where in ("all", "prompt"):
        changed = dataclasses.replace(profile, steered_positions=where)
        for method in ("mean_difference", "optimized"):
            _, rows = measured(changed, llama, tmp_path / where / method, method)
            vectors[where, method] = rows["loss_neutral"].vector_hash
    assert vectors["all", "mean_difference"] == vectors["prompt", "mean_difference"]
    assert vectors["all", "optimized"] != vectors["prompt", "optimized"]
