"""A metric by layer and method, read back by pandas and looked up cell by cell."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from steering.errors import UnknownNameError
from steering.tables.export import pivot_to_csv, pivot_to_parquet, to_latex
from steering.tables.markdown import markdown_table
from steering.tables.pivots import pivot_frame, pivot_table
from tests.small_rows import quality, small_row, unsteered_row

METRIC = "rollout_probability"
finite = st.floats(allow_nan=False, allow_infinity=False)


def test_layers_go_down_and_methods_across_beside_the_unsteered_run():
    rows = [unsteered_row(value=0.1, low=0.05, high=0.2), small_row(layer=20, value=0.4), small_row(layer=8, value=0.3)]
    rows += [small_row(method="noise", layer=8, value=0.25), small_row(layer=8, metric="loss_positive")]
    plain, interval = "0.100 [0.050, 0.200]", "[0.250, 0.750]"
    assert pivot_table(rows, METRIC) == [
        ["layer", "unsteered", "mean_difference", "noise"],
        ["8", plain, f"0.300 {interval}", f"0.250 {interval}"],
        ["20", plain, f"0.400 {interval}", "-"],
    ]


@settings(max_examples=20)
@given(st.dictionaries(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 40)), finite, min_size=1))
def test_files_hold_each_value_to_the_last_bit(values):
    rows = [small_row(method=method, layer=layer, value=value) for (method, layer), value in values.items()]
    csv = pd.read_csv(io.StringIO(pivot_to_csv(rows, METRIC)), index_col="layer")
    table = parquet.read_table(io.BytesIO(pivot_to_parquet(rows, METRIC))).to_pandas().set_index("layer")
    for frame in (csv, table):
        assert list(frame.index) == sorted({layer for _, layer in values})
        found = {(method, layer): frame.loc[layer, method] for method in frame for layer in frame.index}
        assert {place: value for place, value in found.items() if not pd.isna(value)} == values


def test_changes_have_signs():
    assert pivot_table([small_row(metric="loss_change_neutral")], "loss_change_neutral")[1][1] == (
        "+0.500 [+0.250, +0.750]"
    )


def test_doses_of_one_method_are_columns_of_their_own():
    rows = [small_row(layer=8, multiplier=3.0), small_row(layer=8, multiplier=12.0), small_row(layer=9, multiplier=3.0)]
    assert pivot_table(rows, METRIC)[0] == ["layer", "mean_difference ×12", "mean_difference ×3"]
    scaled = [small_row(layer=8, multiplier=3.5), small_row(layer=9, multiplier=4.5)]
    assert pivot_table(scaled, METRIC)[0] == ["layer", "mean_difference"]


def test_doses_are_named_by_what_was_asked_for_whatever_multiplier_came_of_it():
    budgets = [
        small_row(layer=layer, multiplier=dose * layer, parameters={"neutral_budget": budget})
        for layer in (8, 9)
        for budget, dose in ((0.05, 1.0), (0.1, 2.0))
    ]
    assert pivot_table(budgets, METRIC)[0] == ["layer", "mean_difference budget 0.05", "mean_difference budget 0.1"]
    scaled = {"norm_of": {"construction": "feature_delta"}, "scaled_multiplier": 12.0}
    norms = [
        row
        for layer in (8, 9)
        for row in (small_row(layer=layer), small_row(layer=layer, multiplier=3.0 * layer, parameters=scaled))
    ]
    names = ["mean_difference ×1", "mean_difference ×12, norm of feature_delta"]
    assert pivot_table(norms, METRIC)[0] == ["layer", *names]


def test_a_hash_in_a_name_is_the_same_at_each_layer():
    rows = [small_row(layer=layer, parameters={"top": top}) for layer in (8, 9) for top in (1, 2)]
    header, *lines = pivot_table(rows, METRIC)
    assert len(header) == 3
    assert all("-" not in line for line in lines)


def features_of(layer, release="one"):
    """Parameters of a method that reads the layer's SAE."""
    of_sae = {
        "sae": f"{release}/{layer}",
        "sae_hash": f"{release}{layer}",
        "hook_name": f"blocks.{layer}.hook_resid_post",
    }
    return {"construction": "feature_delta", "tokens": "mean", **of_sae}


def test_settings_are_the_same_at_layers_with_saes_of_their_own():
    rows = [
        small_row(layer=layer, parameters=features_of(layer) | {"tokens": tokens}, seed=seed)
        for seed in (0, 7)
        for layer in (8, 9)
        for tokens in ("mean", "last")
    ]
    header, *lines = pivot_table(rows, METRIC)
    assert len(header) == 4  # run, layer, and two of the same name for both seeds
    assert all("-" not in line for line in lines)


def test_the_same_settings_with_another_sae_have_a_number():
    rows = [
        small_row(layer=layer, parameters=features_of(layer, release), value=value)
        for layer in (8, 9)
        for release, value in (("one", 0.1), ("other", 0.2))
    ]
    header, *lines = pivot_table(rows, METRIC)
    assert header == ["layer", "mean_difference", "mean_difference #2"]
    assert [[cell[:5] for cell in line[1:]] for line in lines] == [["0.100", "0.200"]] * 2


@pytest.mark.parametrize("failed_first", [True, False])
def test_attempt_that_failed_hides_nothing_that_was_measured(failed_first):
    rows = [small_row(layer=layer, parameters=features_of(layer), value=0.3) for layer in (8, 9)]
    failed = small_row(layer=8, value=None, vector_hash="", vector_norm=None, status="failed", reason="no feature")
    header, *lines = pivot_table([failed, *rows] if failed_first else [*rows, failed], METRIC)
    assert header == ["layer", "mean_difference"]
    assert [line[1][:5] for line in lines] == ["0.300", "0.300"]
    assert pivot_table([failed, rows[1]], METRIC)[1] == ["8", "-"]


def test_cells_that_differ_in_parameters_alone_are_columns_of_their_own():
    rows = [small_row(parameters={"top": top}, value=top / 10) for top in (1, 2)]
    header, line = pivot_table(rows, METRIC)
    assert len(set(header)) == 3
    assert sorted(cell[:5] for cell in line[1:]) == ["0.100", "0.200"]


def test_runs_of_different_things_are_lines_of_their_own():
    rows = [
        small_row(value=0.1),
        small_row(value=0.2, seed=7),
        unsteered_row(value=0.3),
        unsteered_row(value=0.4, seed=7),
    ]
    assert [[cell[:6] for cell in line] for line in pivot_table(rows, METRIC)] == [
        ["run", "layer", "unstee", "mean_d"],
        ["seed 0", "1", "0.300 ", "0.100 "],
        ["seed 7", "1", "0.400 ", "0.200 "],
    ]
    frame = pd.read_csv(io.StringIO(pivot_to_csv(rows, METRIC)))
    assert frame["run"].tolist() == ["seed 0", "seed 7"]
    assert frame["mean_difference"].tolist() == [0.1, 0.2]


def test_each_run_has_its_own_layers_alone():
    rows = [small_row(layer=8), small_row(layer=20, seed=7), unsteered_row(seed=9)]
    assert [line[:2] for line in pivot_table(rows, METRIC)[1:]] == [["seed 0", "8"], ["seed 7", "20"], ["seed 9", ""]]
    assert len(pivot_frame(rows, METRIC)) == 3


def test_what_could_not_be_measured_is_a_dash_and_no_value():
    rows = [small_row(value=None, status="failed"), small_row(layer=2)]
    assert [line[1] for line in pivot_table(rows, METRIC)[1:]] == ["-", "0.500 [0.250, 0.750]"]
    assert pivot_frame(rows, METRIC)["mean_difference"].isna().tolist() == [True, False]


def test_unsteered_run_alone_and_saes_have_tables():
    assert pivot_table([unsteered_row(value=0.1)], METRIC)[1] == ["", "0.100 [0.100, 0.750]"]
    assert pivot_table(quality(), "sae_l0") == [["layer", "saes/layer8"], ["8", "32.250 [0.750, 32.250]"]]


def test_unknown_metric_is_one_message_with_a_near_match():
    with pytest.raises(UnknownNameError, match=r"unknown metric 'rollout_probabilty'. Did you mean 'rollout_prob"):
        pivot_frame([small_row()], "rollout_probabilty")


def test_text_formats_hold_the_same_cells_and_names_are_no_formulas():
    rows = [small_row(method="=1+1", layer=8), small_row(method="a_b", layer=8)]
    assert markdown_table(pivot_table(rows, METRIC)).splitlines()[0] == "| layer | =1+1 | a_b |"
    assert "layer & =1+1 & a\\_b \\\\" in to_latex({METRIC: pivot_table(rows, METRIC)})
    assert pivot_to_csv(rows, METRIC).splitlines()[0] == "layer,'=1+1,a_b"
