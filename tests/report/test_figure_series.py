"""Which rows stand in the same figure, which of them one line goes through, and how figures are named."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.report.figures import figures_of
from steering.report.figures.series import groups_of, over_layers
from steering.results import SUCCESS
from tests.figure_rows import budget_rows, cell, dosed_rows, line_named, named, plain_rows, records, unsteered
from tests.small_rows import quality


def scaled_to(construction, multiplier):
    """Parameters of a cell that has the norm of another construction's vector."""
    return {"norm_of": {"construction": construction}, "scaled_multiplier": multiplier}


def doses(rows):
    """(method, dose) -> layers, of the one group of some rows."""
    [group] = groups_of(rows)
    return {(series.method, series.dose): [cell.row.layer for cell in series.cells] for series in group.series}


def test_a_method_with_one_dose_is_one_series():
    assert doses(plain_rows()) == {
        ("mean_difference", ""): [1, 2, 4],
        ("feature_delta", ""): [2],
        ("random_direction", ""): [1, 2, 4],
    }


def test_a_method_with_several_doses_has_a_series_for_each():
    found = doses(dosed_rows())
    assert found == {("feature_delta", dose): [3, 5] for dose in ("×−1", "×0.5", "×2")}


def test_doses_that_a_norm_has_changed_from_layer_to_layer_are_those_that_were_asked_for():
    rows = [
        row
        for layer in (1, 2, 3)
        for dose in (2.5, -1.0)
        for row in cell(layer=layer, multiplier=dose * 1.7**layer, parameters=scaled_to("mean_difference", dose))
    ]
    names = [f"×{dose}, norm of mean_difference" for dose in ("−1", "2.5")]
    assert doses(rows) == {("mean_difference", name): [1, 2, 3] for name in names}


def test_what_is_scaled_to_a_norm_is_no_dose_of_what_is_not():
    scaled = [row for layer in (1, 2) for row in cell(layer=layer, parameters=scaled_to("feature_delta", 1.0))]
    found = doses([*cell(layer=1), *cell(layer=2), *scaled])
    assert found == {("mean_difference", dose): [1, 2] for dose in ("×1", "×1, norm of feature_delta")}


def test_cells_that_differ_in_something_else_are_not_drawn_over_each_other():
    rows = [*cell(layer=1), *cell(layer=2), *cell(layer=2, success=0.9, vector_hash="other")]
    assert doses(rows) == {("mean_difference", ""): [1, 2], ("mean_difference", "#2"): [2]}


def test_doses_found_by_a_budget_are_no_doses_that_were_given():
    rows = [*budget_rows(), *cell(layer=1, multiplier=12.0), *cell(layer=3, multiplier=12.0)]
    found = doses(rows)
    assert found["mean_difference", "×12"] == [1, 3]
    assert found["mean_difference", "budget 0.05"] == [1, 3]
    assert found["feature_delta", ""] == [1, 3]
    figures = figures_of(rows)
    assert {entry["multiplier"] for entry in records(named(figures, "success_by_layer"))} == {0.0, 12.0}
    names = {figure.name for figure in figures}
    assert {"equal_damage-0.05", "loss_change_by_layer", "loss_change_by_layer-budget_0.05"} <= names


def test_each_circumstance_has_figures_of_its_own():
    development = [replace(row, measurement=row.measurement | {"split": "development"}) for row in cell(success=0.125)]
    rows = [*unsteered(), *cell(), *development, *quality()]
    figures = figures_of(rows)
    test, other = (named(figures, f"success_by_layer-split_{split}") for split in ("test", "development"))
    assert [entry["value"] for entry in records(test)] == [0.25, 0.5]
    assert [entry["value"] for entry in records(other)] == [0.125]
    assert "split development" in other.title
    assert len({figure.name for figure in figures}) == len(figures)


def test_controls_come_last_and_known_methods_first():
    rows = [row for name in ("b", "a", "hand_crafted", "mean_difference") for row in cell(name, is_control=name == "a")]
    assert [method for method, _ in doses(rows)] == ["mean_difference", "hand_crafted", "b", "a"]


@settings(max_examples=10)
@given(st.lists(st.text(min_size=1, max_size=80).filter(str.strip), min_size=2, max_size=4, unique=True))
def test_names_of_files_are_safe_and_unique(methods):
    figures = figures_of([row for method in ["A", "a", *methods] for row in cell(method)])
    names = [figure.name for figure in figures]
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,150}", name) for name in names)
    assert len({name.casefold() for name in names}) == len(names)
    assert len([name for name in names if name.startswith("one_word")]) == len({"A", "a", *methods})


def failed(rows):
    lost = {"value": None, "low": None, "high": None, "n": 0, "items": (), "texts": (), "status": "failed"}
    return [replace(row, **lost) for row in rows]


def test_what_failed_is_a_gap_and_is_told():
    rows = [*cell(layer=1), *failed(cell(layer=2)), *cell(layer=3)]
    figure = named(figures_of(rows), "success_by_layer")
    assert "not measured, and left out: mean_difference at layer 2." in figure.caption
    [axes] = figure.draw().axes
    [line] = [line for line in axes.lines if line.get_label() == "mean_difference"]
    assert line.get_ydata()[[0, 2]].tolist() == [0.5, 0.5]
    assert line.get_ydata()[1] != line.get_ydata()[1]
    assert [entry["status"] for entry in records(figure)] == ["ok", "failed", "ok"]


def test_cells_are_told_once_and_cut_off_after_four():
    lost = [row for layer in (2, 3) for row in failed(cell(layer=layer))]
    figure = named(figures_of([*cell(layer=1), *lost]), "loss_change_by_layer")
    assert "left out: mean_difference at layer 2, mean_difference at layer 3." in figure.caption
    lost = [row for layer in range(2, 7) for row in failed(cell(layer=layer))]
    assert "at layer 5 …." in named(figures_of([*cell(layer=1), *lost]), "loss_change_by_layer").caption


NEUTRAL = "loss_change_neutral"


@pytest.mark.parametrize(
    "rows",
    [
        [row for row in budget_rows() if row.metric == SUCCESS],
        [*failed([row for row in budget_rows() if row.metric == NEUTRAL]), *budget_rows()[:1], *budget_rows()[4::4]],
    ],
    ids=["not measured", "failed"],
)
def test_cells_at_a_budget_are_drawn_without_their_loss_on_neutral_text(rows):
    figures = figures_of([row for row in rows if row.metric in (SUCCESS, NEUTRAL)])
    drawn = {figure.name: figure.draw() for figure in figures}
    [name] = [name for name in drawn if name.startswith("equal_damage")]
    below = drawn[name].axes[2]
    assert below.get_yscale() == "log"
    assert [line.get_ydata().tolist() for line in below.lines] == [[2.5 * 2, 2.5 * 8], [2.5 * 3, 2.5 * 9]]


def test_cells_at_a_budget_are_drawn_where_nothing_is_known_to_be_added():
    rows = [replace(row, vector_norm=None) for row in budget_rows() if row.metric == SUCCESS]
    [figure] = [figure for figure in figures_of(rows) if figure.name.startswith("equal_damage")]
    assert figure.draw().axes[2].get_yscale() == "linear"


def test_value_beside_its_interval_by_rounding_is_drawn():
    beside = [replace(row, low=np.nextafter(row.value, 1)) if row.metric == NEUTRAL else row for row in cell(layer=2)]
    figure = named(figures_of([*unsteered(), *cell(), *beside]), "pareto")
    assert 0.05 in line_named(figure.draw().axes[1], "mean_difference").get_xdata()


def test_failed_cells_alone_give_no_figure():
    assert figures_of(failed(cell(vector_norm=None))) == []


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        ("rollout_probability", {"success_by_layer"}),
        ("loss_change_neutral", {"loss_change_by_layer"}),
        ("one_word_changed", {"one_word-mean_difference"}),
    ],
)
def test_partial_rows_give_the_figures_that_they_suffice_for(metric, names):
    rows = [row for row in [*unsteered(), *cell(), *cell(layer=2)] if row.metric == metric]
    figures = figures_of(rows)
    assert {figure.name for figure in figures} == names | {"vector_norm_by_layer"}
    for figure in figures:
        figure.draw()


def test_doses_at_one_layer_are_left_out_of_lines_beside_those_at_several():
    rows = unsteered()
    for layer in (1, 2):
        rows += cell(layer=layer, multiplier=2.0)
    rows += cell(layer=2, multiplier=4.0) + cell("feature_delta", 2)
    [group] = groups_of(rows)
    shown = over_layers(group.series, [SUCCESS])
    assert [entry.label for entry in shown] == ["mean_difference ×2", "feature_delta"]
    alone = groups_of([*unsteered(), *cell(layer=2, multiplier=2.0), *cell(layer=2, multiplier=4.0)])[0]
    assert len(over_layers(alone.series, [SUCCESS])) == 2


def test_dose_at_several_layers_is_left_out_where_the_metric_was_measured_at_one_of_them():
    rows = unsteered()
    for layer in (1, 2):
        rows += cell(layer=layer, multiplier=2.0)
        rows += [row for row in cell(layer=layer, multiplier=4.0) if layer == 2 or row.metric != SUCCESS]
    [group] = groups_of(rows)
    assert [entry.dose for entry in over_layers(group.series, [SUCCESS])] == ["×2"]
    assert [entry.dose for entry in over_layers(group.series, ["loss_change_neutral"])] == ["×2", "×4"]


@pytest.mark.parametrize(("points", "shown"), [(3, 4), (4, 1)])
def test_methods_at_one_layer_stand_beside_lines_where_they_are_few(points, shown):
    rows = [*unsteered(), *cell(layer=1), *cell(layer=2)]
    for number in range(points):
        rows += cell(f"method_{number}", 2)
    [group] = groups_of(rows)
    assert len(over_layers(group.series, [SUCCESS])) == shown
    [without_lines] = groups_of([row for row in rows if row.method != "mean_difference"])
    assert len(over_layers(without_lines.series, [SUCCESS])) == points


def test_losses_have_a_panel_for_each_kind_that_was_measured_and_no_figure_of_one_layer_among_several():
    rows = unsteered()
    for layer in (1, 2):
        rows += [row for row in cell(layer=layer) if row.metric != "loss_change_positive"]
    rows += [row for row in cell("optimized", 2) if row.metric == "rollout_probability"]
    [figure] = [figure for figure in figures_of(rows) if figure.name.startswith("loss_change")]
    assert len(figure.draw().axes) == 2
    other = unsteered() + cell(layer=1) + cell(layer=2) + cell(layer=2, multiplier=3.0) + cell(layer=2, multiplier=5.0)
    assert len([figure for figure in figures_of(other) if figure.name.startswith("loss_change")]) == 1


def test_vectors_of_other_settings_have_norms_of_their_own_and_doses_have_not():
    rows = unsteered()
    for layer in (1, 2):
        for top, norm in ((5, 2.0), (9, 3.0)):
            made = {"vector_hash": f"{top}{layer}", "vector_norm": norm + layer, "parameters": {"top": top}}
            rows += cell(layer=layer, **made) + cell(layer=layer, multiplier=2.0, **made)
    figure = named(figures_of(rows), "vector_norm_by_layer")
    by_method = {}
    for entry in records(figure):
        by_method.setdefault(entry["method"], []).append(entry["vector_norm"])
    assert next(iter(by_method)) == "mean_difference"
    assert {tuple(norms) for norms in by_method.values()} == {(3.0, 4.0), (4.0, 5.0)}
    drawn = [line for line in figure.draw().axes[0].lines if len(line.get_xdata()) == 2]
    assert [line.get_ydata().tolist() for line in drawn] == list(by_method.values())
    assert len({line.get_color() for line in drawn}) == len(drawn)
