"""Which rows are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import UnknownNameError
from steering.tables.row_filters import RowFilter
from tests.small_rows import small_row, unsteered_row

METHODS, LAYERS, METRICS = ("a", "b"), (0, 8, 20), ("loss_positive", "rollout_probability")
ROWS = [small_row(method=a, layer=b, metric=c) for a in METHODS for b in LAYERS for c in METRICS]
ROWS += [unsteered_row(metric=metric) for metric in METRICS]


def some(names):
    return st.lists(st.sampled_from(names), unique=True).map(tuple)


@given(some(METHODS), some(LAYERS), some(METRICS))
def test_rows_are_kept_that_have_all_that_is_asked_for(methods, layers, metrics):
    kept = RowFilter(methods, layers, metrics).apply(ROWS)
    assert [(row.method, row.layer, row.metric) for row in kept] == [
        (row.method, row.layer, row.metric)
        for row in ROWS
        if (not methods or row.method in methods)
        if (not metrics or row.metric in metrics)
        if (not layers or row.layer is None or row.layer in layers)
    ]


def test_runs_are_kept_by_name_and_the_last_is_the_latest():
    runs = ["20260102T000000-7", "20251231T235959-9", "20260102T000001-3"]
    rows = [small_row(run=run, layer=layer) for layer, run in enumerate(runs)]
    assert [row.run for row in RowFilter(run="last").apply(rows)] == [runs[2]]
    assert [row.run for row in RowFilter(run=runs[1]).apply(rows)] == [runs[1]]
    assert RowFilter(run="all").apply(rows) == rows
    assert RowFilter(run="last").apply([]) == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (RowFilter(methods=("aa",)), "unknown method 'aa'. Did you mean 'a'? Known: a, b, unsteered."),
        (RowFilter(layers=(9,)), "unknown layer '9'. Known: 0, 8, 20."),
        (RowFilter(metrics=("loss_positiv",)), "unknown metric 'loss_positiv'. Did you mean 'loss_positive'?"),
        (RowFilter(run="run-2"), "unknown run 'run-2'. Did you mean 'run-1'? Known: run-1."),
    ],
)
def test_what_no_row_has_is_one_message(wanted, message):
    with pytest.raises(UnknownNameError) as raised:
        wanted.apply(ROWS)
    assert str(raised.value).startswith(message)
