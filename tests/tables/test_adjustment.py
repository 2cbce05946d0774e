"""P values that are shown: those against the unsteered run that counts."""

from __future__ import annotations

import pytest

from steering.report.figures import figures_of
from steering.report.studies import studies_of
from steering.report.verdict import verdict_of
from steering.tables.adjustment import adjusted_p_values, of_another_unsteered_run, p_values
from steering.tables.cells import summary
from tests.small_rows import small_row, unsteered_row

NEVER, ALWAYS = (0.0,) * 8, (1.0,) * 8
#: Of eight pairs that all differ in one direction.
SMALLEST = 2.0**-8


def cell(layer, p_value=SMALLEST, **changes):
    return small_row(layer=layer, items=ALWAYS, value=1.0, p_value=p_value, **changes)


def unsteered(items, **changes):
    return unsteered_row(items=items, value=items[0], low=0.0, high=1.0, **changes)


def test_p_value_is_shown_where_it_is_against_the_unsteered_run_beside_it():
    rows = [unsteered(NEVER), cell(8), cell(20)]
    assert of_another_unsteered_run(rows) == frozenset()
    assert list(adjusted_p_values(rows, "p_value").values()) == pytest.approx([2 * SMALLEST] * 2)
    assert [line[5] for line in summary(rows)[2:]] == ["0.0078"] * 2


def test_p_value_against_an_unsteered_run_that_no_longer_counts_is_no_evidence():
    """The cell at layer 20 was measured after the unsteered run came out at 1, and its p value is 1."""
    rows = [unsteered(ALWAYS), cell(8), cell(20, p_value=1.0)]
    assert of_another_unsteered_run(rows) == {rows[1].key}
    assert adjusted_p_values(rows, "p_value") == p_values(rows, "p_value") == {rows[2].key: 1.0}
    assert [line[5] for line in summary(rows)[2:]] == ["-", "1.0000"]


@pytest.mark.parametrize(
    "rows",
    [
        [cell(8)],
        [unsteered(ALWAYS, seed=1), cell(8)],
        [unsteered_row(value=1.0), cell(8)],
        [unsteered(ALWAYS * 2), cell(8)],
    ],
    ids=["none", "another study's", "without items", "of another number"],
)
def test_where_there_is_nothing_to_hold_a_p_value_against_it_stays(rows):
    assert of_another_unsteered_run(rows) == frozenset()
    assert adjusted_p_values(rows, "p_value") == {rows[-1].key: SMALLEST}


def test_p_value_against_a_control_does_not_depend_on_the_unsteered_run():
    rows = [unsteered(ALWAYS), cell(8, p_control=0.25)]
    assert adjusted_p_values(rows, "p_control") == {rows[1].key: 0.25}


def test_controls_above_an_unsteered_run_that_no_longer_counts_are_not_told_of():
    rows = [unsteered(ALWAYS), cell(8), *(cell(layer, method="random", is_control=True) for layer in (1, 2, 3))]
    [study] = studies_of(rows, 0.01, [])
    assert "control cell" not in str(verdict_of(study, 0.1))
    [earlier] = studies_of([unsteered(NEVER), *rows[1:]], 0.01, [])
    assert "Of 3 control cells, 3 are above the unsteered run" in str(verdict_of(earlier, 0.1))


def test_map_of_doses_leaves_out_what_no_longer_counts():
    cells = [cell(layer, multiplier=dose) for layer in (1, 2) for dose in (1.0, 2.0)]
    for items, expected in ((ALWAYS, None), (NEVER, SMALLEST)):
        [figure] = [
            found for found in figures_of([unsteered(items), *cells]) if found.name.startswith("success_by_dose")
        ]
        headings, *lines = figure.data
        assert [line[headings.index("p_value")] for line in lines if line[0] == "mean_difference"] == [expected] * 4
