"""What is promoted to a baseline, what is refused, and what is told of the changes."""

from __future__ import annotations

import dataclasses
import json

import pytest

from steering.errors import ResultsError, UnknownNameError
from steering.journal import Journal, load_rows
from steering.verdicts.baselines import GATED
from steering.verdicts.promotion import changes, measured_cells, promote, with_others
from tests.gate_rows import METRICS, baseline_of, cell, failed, items_of
from tests.small_rows import small_row, unsteered_row


def test_promotion_keeps_what_decides_and_the_items_and_no_texts(tmp_path):
    rows = cell(texts=("once upon a time",), parameters={"top": 3})
    Journal(tmp_path).append([unsteered_row(), *rows])
    baseline = promote(load_rows(tmp_path))
    [found] = baseline.cells
    row = rows[0]
    for key in ("model", "model_hash", "dtype", "concept", "toward", "neutral", "data_hash", "seed", "measurement"):
        assert getattr(baseline, key) == getattr(row, key)
    for key in ("method", "layer", "multiplier", "parameters", "vector_hash", "vector_norm", "device"):
        assert getattr(found, key) == getattr(row, key)
    assert found.id == "mean_difference-layer20"
    assert {name: score.items for name, score in found.scores.items()} == {
        row.metric: row.items for row in rows if row.metric in METRICS
    }
    assert {name: (score.value, score.n) for name, score in found.scores.items()} == {
        row.metric: (row.value, row.n) for row in rows if row.metric in METRICS
    }
    assert "once upon" not in baseline.to_json()


def test_controls_other_splits_the_unsteered_run_and_saes_are_left_out():
    control = cell(20, method="random_direction", is_control=True)
    chosen = cell(20, measurement=cell()[0].measurement | {"split": "development"})
    rows = [unsteered_row(), *control, *chosen, *cell(20), small_row(method="sae", parameters={"sae": "s"})]
    assert [entry.id for entry in promote(rows).cells] == ["mean_difference-layer20"]
    with pytest.raises(ResultsError, match="there is no steered cell among the results"):
        promote([unsteered_row(), *control, *chosen])


def test_cells_are_chosen_by_method_and_layer_and_ordered():
    rows = [row for method in ("b", "a") for layer in (20, 3) for row in cell(layer, method=method)]
    assert [entry.id for entry in promote(rows).cells] == ["a-layer3", "a-layer20", "b-layer3", "b-layer20"]
    assert [entry.id for entry in promote(rows, methods=["b"], layers=[20]).cells] == ["b-layer20"]
    with pytest.raises(UnknownNameError, match="unknown method 'c'"):
        promote(rows, methods=["c"])
    with pytest.raises(UnknownNameError, match="unknown layer '4'.*Known: 3, 20"):
        promote(rows, layers=[3, 4])


def test_cell_that_failed_is_refused_unless_it_was_measured_after_all():
    with pytest.raises(ResultsError, match="layer20 failed and cannot be promoted: rollout_probability: NaN"):
        promote([*cell(8), *cell(20), *failed(cell(20))])
    assert len(promote([*failed(cell(20)), *cell(20)]).cells) == 1
    lost = failed(cell(20), "no feature", vector_hash="", multiplier=1.0, parameters={})
    with pytest.raises(ResultsError, match="no feature"):
        promote([*cell(20), *lost])
    assert len(promote([*lost, *cell(20)]).cells) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "the results cannot be one baseline: seed is 0 .run run-1., 1 .run run-2."),
        ({"model_hash": "d"}, "model_hash is"),
        ({"model_settings_hash": "d"}, "model_settings_hash is"),
        ({"items": items_of(10, 100)}, "rollouts is 200 .* 100"),
    ],
)
def test_rows_of_several_circumstances_are_refused(change, told):
    with pytest.raises(ResultsError, match=told + r".*Promote one run, by"):
        promote([*cell(8), *cell(20, run="run-2", **change)])


def test_cell_that_the_gate_does_not_look_at_is_named_with_what_leaves_it_out():
    words = [row for row in cell(8, method="words") if row.metric == "one_word_changed"]
    with pytest.raises(ResultsError, match=r"words-layer8: no metric that the gate looks at .* with --methods"):
        promote([*words, *cell(20)])


@pytest.mark.parametrize("change", [{"multiplier": 3.0}, {"parameters": {"top": 2}}])
def test_cell_with_several_doses_or_parameters_is_refused(change):
    with pytest.raises(ResultsError, match=r"mean_difference-layer20 cannot be one baseline.* into a new directory"):
        promote([*cell(20), *cell(20, **change)])


def test_last_measurement_of_a_cell_is_promoted():
    rows = [*cell(vector_hash="d", items=items_of(90)), *cell(vector_hash="e", items=items_of(80))]
    assert promote(rows).cells[0].vector_hash == "e"
    assert promote([*rows, *rows[:5]]).cells[0].vector_hash == "d"


def test_measured_cells_are_kept_apart_by_all_that_decides():
    rows = [*cell(20), *cell(20, seed=1), *cell(8), unsteered_row()]
    found = measured_cells(rows)
    assert {key: len(entries) for key, entries in found.items()} == {
        ("mean_difference", 20): 2,
        ("mean_difference", 8): 1,
    }
    assert found["mean_difference", 20][1].row.seed == 1


@pytest.mark.parametrize(("count", "asked", "required"), [(2000, None, 200), (50, None, 50), (2000, 500, 500)])
def test_required_rollouts_are_200_or_as_many_as_there_are(count, asked, required):
    assert baseline_of(cell(items=items_of(20, count)), required_rollouts=asked).required_rollouts == required


def test_more_rollouts_than_the_baseline_has_cannot_be_required():
    with pytest.raises(ResultsError, match="500 rollouts cannot be required: the baseline itself would have 200"):
        baseline_of(cell(), required_rollouts=500)


def test_margins_are_the_default_but_for_those_that_are_given():
    found = baseline_of(cell(), margins={"loss_change_neutral": 0.03}).margins
    assert found == {metric.name: metric.margin for metric in GATED} | {"loss_change_neutral": 0.03}
    with pytest.raises(UnknownNameError, match="unknown gated metric 'loss_neutral'. Did you mean"):
        baseline_of(cell(), margins={"loss_neutral": 0.03})
    with pytest.raises(ResultsError, match="must not be below 0"):
        baseline_of(cell(), margins={"loss_change_neutral": -0.1})


def test_row_without_its_items_is_refused():
    rows = [dataclasses.replace(row, items=()) for row in cell()]
    with pytest.raises(ResultsError, match="says n = 200 and holds 0 items"):
        promote(rows)


def test_changes_between_baselines_are_told_one_a_line():
    old = baseline_of(cell(3), cell(8), cell(20))
    later = cell(20, items_of(90), vector_hash="d" * 64, parameters={"top": 3}, vector_norm=3.0)
    new = baseline_of(cell(8), later, cell(25), margins={"loss_change_neutral": 0.02}, required_rollouts=100)
    assert changes(old, new) == [
        "required_rollouts: 200 → 100",
        "margins: loss_change_neutral 0.01 → 0.02",
        "mean_difference-layer3: removed",
        "mean_difference-layer20: parameters top None → 3",
        f"mean_difference-layer20: vector_hash '{'c' * 12}…' → '{'d' * 12}…'",
        "mean_difference-layer20: vector_norm 2.5 → 3.0",
        "mean_difference-layer20: rollout_probability 0.5000 (n = 200) → 0.4500 (n = 200)",
        "mean_difference-layer25: added",
    ]
    assert changes(old, old) == []
    elsewhere = changes(baseline_of(cell()), baseline_of(cell(device="cuda")))
    assert elsewhere == ["mean_difference-layer20: device 'cpu' → 'cuda'"]
    assert json.loads(new.to_json())["required_rollouts"] == 100


def test_cells_that_are_not_measured_again_are_kept_with_the_margins_of_all():
    old = baseline_of(cell(3), cell(20), margins={"loss_change_neutral": 0.03}, required_rollouts=100)
    new = baseline_of(cell(20, items_of(90), vector_hash="d"), cell(8))
    found = with_others(new, old)
    assert [entry.id for entry in found.cells] == [f"mean_difference-layer{layer}" for layer in (3, 8, 20)]
    assert (found.cells[0], found.cells[2]) == (old.cells[0], new.cells[1])
    assert (found.margins, found.required_rollouts) == (old.margins, 100)
    assert with_others(old, old) == old


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "cannot be kept: seed: 0 → 1. Promote results of all cells"),
        ({"model_hash": "d"}, "model_hash: .* → 'd'"),
        ({"items": items_of(10, 100)}, "measurement: rollouts 200 → 100"),
    ],
)
def test_cells_measured_otherwise_are_not_kept(change, told):
    with pytest.raises(ResultsError, match=told):
        with_others(baseline_of(cell(20, **change)), baseline_of(cell(8)))


def test_cells_measured_with_other_versions_are_not_kept():
    old = baseline_of(cell(8))
    new = baseline_of(cell(20, versions=old.versions | {"torch": "2.1.0"}))
    with pytest.raises(ResultsError, match=r"cannot be kept: versions: torch '2\.0\.0' → '2\.1\.0'"):
        with_others(new, old)


def test_versions_are_those_of_what_measured():
    assert baseline_of(cell(versions={"torch": "1.9"})).versions == {"torch": "1.9"}
    assert baseline_of(cell(versions={})).versions == {}, "of rows that do not say"
    resumed = [cell(8, versions={"torch": "1.9"}), cell(12, versions={"torch": "2.0", "numpy": "2"})]
    assert baseline_of(*resumed).versions == {"torch": "1.9, 2.0", "numpy": "not recorded, 2"}


def test_another_name_of_the_same_model_is_no_other_model():
    found = with_others(baseline_of(cell(20, model="/b/small")), baseline_of(cell(8, model="/a/small")))
    assert (len(found.cells), found.model) == (2, "/b/small")
