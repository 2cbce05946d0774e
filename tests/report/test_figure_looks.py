"""How figures of one run go together: a method looks the same in each, and nothing lies unseen below another."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex

from steering.concept_files import load_concept
from steering.report.content import content_of
from steering.report.figures import figures_of
from tests.figure_rows import cell, line_named, named, unsteered

CONTROLS = ("random_1", "random_2", "reversed")


def look(axes, label):
    line = line_named(axes, label)
    return line.get_marker(), to_hex(line.get_color()), line.get_linestyle()


def rows_of(*layers):
    """Controls of which the second was measured by rollouts alone, as those that only widen the null distribution."""
    rows = [row for layer in layers for row in cell(layer=layer)]
    for control in CONTROLS:
        measured = [row for layer in layers for row in cell(control, layer, is_control=True)]
        rows += [row for row in measured if control != "random_2" or row.metric == "rollout_probability"]
    return [*unsteered(), *rows]


def test_control_has_the_same_marker_in_all_figures():
    figures = figures_of(rows_of(1, 2))
    drawn = [named(figures, name).draw().axes[0] for name in ("success_by_layer", "loss_change_by_layer")]
    drawn.append(named(figures, "vector_norm_by_layer").draw().axes[0])
    for label in ("random_1 (control)", "reversed (control)", "mean_difference"):
        assert len({look(axes, label) for axes in drawn}) == 1
    markers = [look(drawn[0], f"{control} (control)")[0] for control in CONTROLS]
    assert len(set(markers)) == len(CONTROLS)


@pytest.mark.parametrize("name", ["success_by_layer", "loss_change_by_layer"])
def test_points_of_one_layer_stand_beside_each_other(name):
    for axes in named(figures_of(rows_of(3)), name).draw().axes:
        points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"]
        assert len(set(points)) == len(points) >= 3
        assert all(abs(point - 3) < 0.5 for point in points)


def test_lines_of_losses_stay_at_their_layers():
    [axes, *_] = named(figures_of(rows_of(1, 2)), "loss_change_by_layer").draw().axes
    assert line_named(axes, "reversed (control)").get_xdata().tolist() == [1, 2]


@pytest.mark.parametrize(("norms", "told"), [((2.0, 2.0), True), ((2.0, 2.0004), True), ((2.0, 8.0), False)])
def test_norms_that_lie_on_one_another_are_told_of(norms, told):
    rows = [*unsteered(), *cell(vector_norm=norms[0]), *cell("other", vector_norm=norms[1])]
    assert (
        "Vectors of equal norm lie on one another." in named(figures_of(rows), "vector_norm_by_layer").caption
    ) is told


def test_report_lists_the_prompts_that_figures_number():
    changes = {"concept": "gender", "toward": "positive"}
    tables = content_of([*unsteered(**changes), *cell(**changes)], None, None).tables
    found = tables["One-word prompts of gender"]
    assert found.lines == tuple(
        (str(number), prompt) for number, prompt in enumerate(load_concept("gender").one_word_prompts, start=1)
    )
    assert not [title for title in content_of([*unsteered(), *cell()], None, None).tables if "prompts" in title]
