"""Figures show the rows that they are made of: their data, and what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from steering.report.figures import figures_of, style
from steering.report.figures.series import groups_of
from steering.report.figures.trade_offs import pareto
from steering.report.paper import PAPER
from tests.contrast import contrast
from tests.figure_rows import (
    LOSSES,
    WORDS,
    budget_rows,
    cell,
    dosed_rows,
    line_named,
    named,
    plain_rows,
    records,
    unsteered,
    unsteered_only,
)

SUCCESS = "rollout_probability"
SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def segments(axes):
    """Ends of the vertical bars."""
    paths = [path for collection in axes.collections for path in collection.get_paths() if len(path.vertices) == 2]
    return {tuple(np.round(path.vertices[:, 1], 9)) for path in paths}


def framed(axes):
    """Corners of the cells of a map that have a frame."""
    frames = [patch for patch in axes.patches if to_hex(patch.get_edgecolor()) == "#000000" and not patch.fill]
    return {patch.get_xy() for patch in frames}


@pytest.mark.parametrize("rows", [plain_rows(), dosed_rows()], ids=["methods", "doses"])
def test_data_of_success_are_the_rows(rows):
    [figure] = [figure for figure in figures_of(rows) if figure.name.startswith("success_by_layer")]
    expected = [row for row in rows if row.metric == SUCCESS]
    fields = ("method", "is_control", "layer", "multiplier", "vector_norm", "value", "low", "high", "n", "status")
    found = {tuple(entry[field] for field in fields) for entry in records(figure)}
    assert found == {tuple(getattr(row, field) for field in fields) for row in expected}
    assert len(figure.data) == 1 + len(expected)


def test_success_is_drawn_at_its_layer_with_its_interval_and_the_unsteered_band():
    rows = plain_rows()
    drawn = named(figures_of(rows), "success_by_layer").draw()
    [axes] = drawn.axes
    for method, label in (("mean_difference", "mean_difference"), ("random_direction", "random_direction (control)")):
        line = line_named(axes, label)
        own = [row for row in rows if row.metric == SUCCESS and row.method == method]
        assert np.abs(line.get_xdata() - [row.layer for row in own]).max() < 0.5
        assert line.get_ydata().tolist() == [row.value for row in own]
    steered = [row for row in rows if row.metric == SUCCESS and row.layer is not None]
    assert segments(axes) == {(round(row.low, 9), round(row.high, 9)) for row in steered}
    [band] = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.23, 0.28))
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylabel() == "P(success)"


def test_methods_differ_in_more_than_colour_and_controls_are_grey():
    rows = [row for method in "abcdefgh" for layer in (1, 2) for row in cell(method, layer, is_control=method > "e")]
    [axes] = named(figures_of(rows), "success_by_layer").draw().axes
    lines = {
        line.get_label(): line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"
    }
    assert len(lines) == 8
    assert len({line.get_marker() for label, line in lines.items() if "control" not in label}) == 5
    assert len({str(line.get_linestyle()) + to_hex(line.get_color()) for line in lines.values()}) == 6
    for label, line in lines.items():
        red, green, blue = (int(to_hex(line.get_color())[place : place + 2], 16) for place in (1, 3, 5))
        assert (red == green == blue != 0) == ("control" in label)


def test_losses_have_the_sign_of_their_axis():
    before, after = np.array([4.0, 5.0, 3.0]), np.array([4.5, 5.25, 3.125])
    values = [float((after - before).mean()), float((before - after).mean()), 0.01]
    figure = named(figures_of([*unsteered(), *cell(layer=2, losses=values)]), "loss_change_by_layer")
    drawn = figure.draw()
    assert drawn.get_supylabel() == "Loss(M + v) − Loss(M), nats per token"
    kinds = ("negative side\n(steered away from)", "positive side\n(steered towards)", "neutral text")
    assert tuple(axes.get_ylabel() for axes in drawn.axes) == kinds
    assert values[0] > 0
    for axes, value in zip(drawn.axes, values, strict=True):
        assert line_named(axes, "mean_difference").get_ydata().tolist() == [value]
        assert segments(axes) == {(round(value - 0.02, 9), round(value + 0.03, 9))}


def test_losses_have_a_line_and_a_band_for_each_multiplier():
    rows = dosed_rows()
    figure = named(figures_of(rows), "loss_change_by_layer-feature_delta")
    drawn = figure.draw()
    for axes, metric in zip(drawn.axes, LOSSES, strict=True):
        polygons = [collection.get_paths()[0].vertices for collection in axes.collections]
        for label, dose in (("×−1", -1.0), ("×0.5", 0.5), ("×2", 2.0)):
            own = [row for row in rows if row.metric == metric and row.multiplier == dose]
            assert line_named(axes, label).get_ydata().tolist() == [row.value for row in own]
            ends = {(row.layer, round(end, 9)) for row in own for end in (row.low, row.high)}
            assert any({(x, round(y, 9)) for x, y in polygon} == ends for polygon in polygons)
    assert [axes.get_yscale() for axes in drawn.axes] == ["symlog"] * 3
    assert "logarithmic beyond" in figure.caption
    assert {entry["metric"] for entry in records(figure)} == set(LOSSES)


@pytest.mark.parametrize("rows", [plain_rows(), budget_rows()], ids=["methods", "budget"])
def test_captions_tell_of_a_band_only_where_it_is_drawn(rows):
    alone = [row for row in rows if row.layer is not None]
    assert any("the unsteered run's" in figure.caption for figure in figures_of(rows))
    assert not any("the unsteered run's" in figure.caption for figure in figures_of(alone))


def test_heat_map_shows_values_intervals_and_what_survives_the_adjustment():
    p_values = {(3, -1.0): 0.9, (3, 0.5): 0.02, (3, 2.0): 0.005, (5, -1.0): 0.5, (5, 0.5): 0.008, (5, 2.0): 0.0125}
    rows = [
        replace(row, p_value=p_values.get((row.layer, row.multiplier)) if row.metric == SUCCESS else None)
        for row in dosed_rows()
    ]
    figure = named(figures_of(rows, level=0.05), "success_by_dose-feature_delta")
    axes = figure.draw().axes[0]
    texts = {text.get_text() for text in axes.texts}
    own = [row for row in rows if row.metric == SUCCESS and row.layer is not None]
    assert texts == {f"{row.value:.2f}\n{f'{row.low:.2f}'.lstrip('0')}–{f'{row.high:.2f}'.lstrip('0')}" for row in own}
    # Holm's steps, written down: .005 × 6, .008 × 5, .0125 × 4; the third is not below .05, and ends it.
    assert framed(axes) == {(2 - 0.48, 0 - 0.48), (1 - 0.48, 1 - 0.48)}
    adjusted = {(entry["layer"], entry["multiplier"]): entry["p_holm"] for entry in records(figure)}
    assert adjusted[3, 2.0] == pytest.approx(0.03)
    assert adjusted[5, 0.5] == pytest.approx(0.04)
    assert adjusted[5, 2.0] == pytest.approx(0.05)
    assert "with p < 0.05 (" in figure.caption
    strict = named(figures_of(rows), "success_by_dose-feature_delta")
    assert framed(strict.draw().axes[0]) == set()
    assert "with p < 0.01 (" in strict.caption


def test_values_are_legible_on_their_colours():
    axes = named(figures_of(dosed_rows()), "success_by_dose-feature_delta").draw().axes[0]
    colours = {patch.get_xy(): patch.get_facecolor()[:3] for patch in axes.patches if patch.fill}
    for text in axes.texts:
        x, y = text.get_position()
        assert contrast(colours[x - 0.48, y - 0.48], to_rgb(text.get_color())) >= 4.5


@pytest.mark.parametrize("rows", [plain_rows(), dosed_rows(), budget_rows()], ids=["methods", "doses", "budget"])
def test_legends_keep_within_their_figures(rows):
    for figure in figures_of(rows):
        drawn = figure.draw()
        FigureCanvasAgg(drawn).draw()
        for legend in (axes.get_legend() for axes in drawn.axes):
            if legend is not None:
                extent = legend.get_window_extent()
                assert extent.x1 <= drawn.bbox.x1, figure.name
                assert extent.y1 <= drawn.bbox.y1, figure.name


def test_one_word_matrix_marks_what_changed_and_counts_it():
    figure = named(figures_of(plain_rows()), "one_word-feature_delta")
    [axes] = figure.draw().axes
    at = {}
    for text in axes.texts:
        at.setdefault(round(text.get_position()[1]), []).append((text.get_text(), text.get_weight()))
    assert at[0] == [(word, "normal") for word in WORDS]
    assert at[1] == [("boy", "bold"), ("sister", "normal"), ("prince", "bold"), ("2/3", "normal")]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["unsteered", "layer 2"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    entry = records(figure)[1]
    assert [entry[f"prompt {number}"] for number in (1, 2, 3)] == ["boy", "sister", "prince"]
    assert (entry["changed"], entry["changed 1"], entry["changed 2"]) == (2, True, False)


@settings(max_examples=25)
@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=8))
def test_pareto_marks_what_no_other_cell_beats(values):
    rows = unsteered()
    for layer, (success, cost) in enumerate(values):
        rows += cell(layer=layer, success=success, losses=(0.0, 0.0, cost), is_control=layer % 3 == 0)
    points = [(0.25, 0.0), *values]
    [group] = groups_of([row for row in rows if row.metric in (SUCCESS, "loss_change_neutral")])
    [figure] = pareto(group)
    entries = records(figure)
    assert [(entry["success"], entry["neutral_change"]) for entry in entries if entry["layer"] is None] == [(0.25, 0.0)]
    for entry in entries:
        success, cost = entry["success"], entry["neutral_change"]
        beaten = [other for other in points if other[0] >= success and other[1] <= cost and other != (success, cost)]
        assert entry["non_dominated"] == (not beaten)


def test_pareto_draws_all_points_and_numbers_the_best():
    rows = plain_rows()
    axes = named(figures_of(rows), "pareto").draw().axes[1]
    line = line_named(axes, "mean_difference")
    assert line.get_xdata().tolist() == [0.01, 0.02, 0.04]
    assert line.get_ydata().tolist() == [0.4, 0.5, 0.7]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4"]
    assert axes.get_xlabel() == "neutral text: Loss(M + v) − Loss(M), nats per token"


def test_equal_damage_shows_budget_development_and_what_is_added():
    rows = budget_rows()
    figure = named(figures_of(rows), "equal_damage-0.05")
    above, middle, below = figure.draw().axes
    assert line_named(above, "mean_difference").get_ydata().tolist() == [0.5, 0.5]
    assert line_named(middle, "budget 0.05").get_ydata() == [0.05, 0.05]
    chosen = [line.get_ydata().tolist() for line in middle.lines if line.get_markerfacecolor() == "white"]
    assert chosen[:2] == [[0.041, 0.043]] * 2
    assert below.lines[0].get_ydata().tolist() == [2.5 * 2, 2.5 * 8]
    assert below.lines[1].get_ydata().tolist() == [2.5 * 3, 2.5 * 9]
    assert {entry["development_loss_change"] for entry in records(figure)} == {0.041, 0.043}
    assert not any(entry.name.startswith("success_by_layer") for entry in figures_of(rows))


def test_equal_damage_leaves_out_no_method():
    dosed = [row for row in budget_rows() if row.method == "feature_delta"]
    rows = unsteered() + [replace(row, method=f"m{number}") for number in range(8) for row in dosed]
    found = [figure for figure in figures_of(rows) if figure.name.startswith("equal_damage-0.05")]
    assert len({figure.name for figure in found}) == len(found) == 2
    assert {entry["method"] for figure in found for entry in records(figure)} == {f"m{number}" for number in range(8)}
    for figure in found:
        drawn = {label for axes in figure.draw().axes for label in axes.get_legend_handles_labels()[1]}
        assert {entry["method"] for entry in records(figure)} <= drawn


@pytest.mark.parametrize(("values", "first"), [((57, 122), [60, 70, 80, 90, 100]), ((1, 1000), [1, 2, 5, 10, 20])])
def test_logarithmic_axis_has_ticks_within_a_decade_too(values, first):
    axes = Figure().subplots()
    axes.plot(values, values)
    style.log_axis(axes)
    low, high = axes.get_ylim()
    assert [tick for tick in axes.get_yticks() if low <= tick <= high][:5] == pytest.approx(first)


def test_norms_are_those_before_the_multiplier():
    rows = [*cell(layer=1, multiplier=3.0, vector_norm=2.0), *cell(layer=2, multiplier=3.0, vector_norm=8.0)]
    figure = named(figures_of(rows), "vector_norm_by_layer")
    [axes] = figure.draw().axes
    assert line_named(axes, "mean_difference").get_ydata().tolist() == [2.0, 8.0]
    assert [(entry["layer"], entry["vector_norm"]) for entry in records(figure)] == [(1, 2.0), (2, 8.0)]


def gpt2_rows():
    changes = {"model": "openai-community/gpt2", "concept": "gender"}
    rows = [*plain_rows(), *dosed_rows()[4:]]
    return [replace(row, **changes) for row in rows if row.method != "feature_delta" or row.layer != 2]


def test_paper_values_stand_beside_rows_of_gpt2():
    figures = figures_of(gpt2_rows(), PAPER)
    [axes] = named(figures, "success_by_layer").draw().axes
    line = line_named(axes, "paper, mean_difference ×3")
    assert line.get_ydata()[[0, 6, 8, 11]].tolist() == [0.16, 0.26, 0.58, 0.86]
    assert line.get_markerfacecolor() == "white"
    assert line_named(axes, "paper, unsteered").get_ydata() == [0.23, 0.23]
    [norms] = named(figures, "vector_norm_by_layer").draw().axes
    assert line_named(norms, "paper, mean_difference").get_ydata()[[0, 11]].tolist() == [1.19, 47.44]
    entries = records(named(figures, "success_by_dose-feature_delta"))
    assert [entry["value"] for entry in entries if str(entry["method"]).startswith("paper")] == [0.32]


def test_scale_of_a_small_map_reaches_what_is_marked_beside_it():
    """Layout gives up, with a warning, where a mark lies far outside of the scale, or there is no room for it."""
    rows = [row for row in gpt2_rows() if row.layer in {None, 3}]
    low = [replace(row, value=0.0, low=0.0, high=0.02) if row.method == "feature_delta" else row for row in rows]
    scale = named(figures_of(low, PAPER), "success_by_dose-feature_delta").draw().axes[-1]
    [mark] = [line for line in scale.lines if line.get_marker() == "D"]
    assert scale.get_ylim() == (0.0, 0.32)
    assert mark.get_ydata() == [0.32]


@pytest.mark.parametrize("changes", [{"model": "gpt2-xl"}, {"concept": "weddings"}, {"toward": "negative"}])
def test_paper_values_stand_beside_no_other_rows(changes):
    rows = [replace(row, **changes) for row in gpt2_rows()]
    assert "paper" not in str([figure.data for figure in figures_of(rows, PAPER)])
    assert "paper: " not in str([figure.data for figure in figures_of(gpt2_rows())])


@pytest.mark.parametrize("rows", [[], unsteered_only()], ids=["none", "unsteered"])
def test_nothing_to_show_gives_no_figure(rows):
    assert figures_of(rows) == []
