"""The table of what could not be measured."""

from __future__ import annotations

import dataclasses

from steering.tables.export import result_tables, to_markdown
from steering.tables.failures import failed_cells, failure_summary
from tests.small_rows import configuration, quality, small_row, unsteered_row

FAILED = {"value": None, "low": None, "high": None, "n": 0, "status": "failed", "items": ()}


def failed(rows, reason):
    return [dataclasses.replace(row, **FAILED, reason=reason) for row in rows]


def test_each_cell_and_reason_is_one_line():
    rows = [unsteered_row(), *configuration(layer=8), *failed(configuration(layer=20), "no feature")]
    rows += [small_row(layer=3), *failed([small_row(layer=3, metric="loss_neutral")], "NaN"), *failed(quality(), "inf")]
    metrics = ", ".join(row.metric for row in configuration())
    assert failure_summary(rows) == [
        ["method", "layer", "not measured", "reason"],
        ["mean_difference", "20", metrics, "no feature"],
        ["mean_difference", "3", "loss_neutral", "NaN"],
        ["saes/layer8", "8", ", ".join(row.metric for row in quality()), "inf"],
    ]
    assert "| no feature |" in to_markdown(rows)


def test_cell_that_failed_for_two_reasons_is_one_cell():
    first, *others = configuration(layer=0)
    rows = [unsteered_row(), *failed([first], "the logits hold NaN"), *failed(others, "a loss is NaN")]
    assert [line[:2] for line in failure_summary(rows)[1:]] == [["mean_difference", "0"]] * 2
    assert len(failed_cells(rows)) == 1


def test_skipped_metrics_did_not_fail():
    skipped = dataclasses.replace(small_row(), **FAILED | {"status": "skipped"}, reason="it has no prompts")
    assert "Not measured" not in result_tables([unsteered_row(), skipped])
