"""The baseline file: nothing is lost in it, nothing damaged is taken for one, and it is replaced as a whole."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steering.errors import ResultsError, SchemaError
from steering.verdicts.baselines import FAMILY_WISE_ERROR, GATED, read_baseline, write_baseline
from tests.gate_rows import baseline_of, cell, items_of

fresh_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
numbers = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "baselines" / "embedded.json"


@pytest.fixture
def written(path):
    write_baseline(baseline_of(cell(8), cell(20), cell(20, method="feature_delta")), path)
    return path


def edited(path: Path, **changes: object) -> Path:
    """The file with some of its keys changed by hand."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return path


def edited_cell(path: Path, **changes: object) -> Path:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return edited(path, cells=[cells[0] | changes, *cells[1:]])


def edited_score(path: Path, **changes: object) -> Path:
    scores = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["scores"]
    name = "rollout_probability"
    return edited_cell(path, scores=scores | {name: scores[name] | changes})


def test_levels_of_the_gated_metrics_are_the_family_wise_error_at_most():
    assert sum(metric.level for metric in GATED) == pytest.approx(FAMILY_WISE_ERROR) == 0.05
    assert [metric.name for metric in GATED if metric.higher_is_better] == [
        "rollout_probability",
        "loss_change_negative",
    ]


def test_baseline_is_read_back_as_it_was(written):
    assert read_baseline(written) == baseline_of(cell(8), cell(20), cell(20, method="feature_delta"))


@fresh_file
@given(values=st.lists(numbers, min_size=1, max_size=6), norm=st.one_of(st.none(), numbers), multiplier=numbers)
def test_values_are_read_back_at_full_precision(path, values, norm, multiplier):
    items = items_of() | {"loss_change_neutral": values}
    baseline = baseline_of(
        cell(items=items, vector_norm=norm, multiplier=multiplier, parameters={"ids": [1, "é\u2028"]})
    )
    write_baseline(baseline, path)
    assert read_baseline(path) == baseline


def test_file_has_a_line_for_each_cell_and_is_as_small_as_its_items(written):
    text = written.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if '"method"' in line]
    assert [json.loads(line.rstrip(","))["layer"] for line in lines] == [20, 8, 20]
    assert '"items": [1, 1, ' in lines[0]
    assert "texts" not in text
    assert json.loads(text)["versions"] == {"torch": "2.0.0", "python": "3.11.0"}


def test_key_that_a_merge_left_twice_is_refused(written):
    text = written.read_text(encoding="utf-8")
    written.write_text(text.replace('"seed": 0', '"seed": 1, "seed": 0', 1), encoding="utf-8")
    with pytest.raises(ResultsError, match="not a baseline: the key 'seed' occurs more than once"):
        read_baseline(written)


def test_margin_that_nothing_can_exceed_is_refused():
    with pytest.raises(ResultsError, match="margin of rollout_probability is 5; it must be below 1: 0.05 is 5 points"):
        baseline_of(cell(), margins={"rollout_probability": 5.0})
    with pytest.raises(ResultsError, match="margin of rollout_probability is 1; it must be below 1"):
        baseline_of(cell(), margins={"rollout_probability": 1.0})


def test_layer_below_0_is_refused():
    with pytest.raises(ResultsError, match="layer-3: its layer is below 0"):
        baseline_of(cell(-3))


def test_writing_the_same_again_changes_no_byte(written):
    before = written.read_bytes()
    write_baseline(read_baseline(written), written)
    assert written.read_bytes() == before


def test_reader_of_the_old_baseline_reads_it_to_its_end(written):
    before = written.read_bytes()
    with written.open("rb") as file:
        write_baseline(baseline_of(cell(3)), written)
        assert file.read() == before
    assert [entry.layer for entry in read_baseline(written).cells] == [3]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": "0"}, "seed is '0'; it should be a valid integer"),
        ({"unknown": 1}, "unknown is 1; Unexpected keyword argument"),
        ({"margins": {"rollout_probability": 0.0}}, "margins are of"),
        ({"margins": {metric.name: -0.1 for metric in GATED}}, "must not be below 0"),
        ({"levels": {metric.name: 0.05 for metric in GATED}}, "0.05 at most in all"),
        ({"levels": {metric.name: 0.0 for metric in GATED}}, "must be above 0"),
        ({"cells": []}, "it holds no cell"),
        ({"required_rollouts": 0}, "at least one is needed"),
        ({"margins": {metric.name: float("nan") for metric in GATED}}, "finite number"),
    ],
)
def test_damaged_baseline_is_one_message_with_the_file(written, changes, told):
    with pytest.raises(ResultsError) as error:
        read_baseline(edited(written, **changes))
    assert str(error.value).startswith(f"{written}: not a baseline: ")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n": 199}, "says n = 199 and holds 200 items"),
        ({"items": [], "n": 0}, "says n = 0 and holds 0 items"),
        ({"value": 0.6}, "says 0.6, which is not the mean of its items"),
        ({"items": [1e308] * 200}, "which is not the mean of its items"),
        ({"items": [0.5] * 200}, "neither 0 nor 1"),
        ({"items": [float("nan")] * 200}, "finite number"),
        ({"items": "01"}, "valid"),
    ],
)
def test_score_that_contradicts_itself_is_refused(written, changes, told):
    with pytest.raises(ResultsError, match="not a baseline") as error:
        read_baseline(edited_score(written, **changes))
    assert told in str(error.value)


def test_cell_that_is_there_twice_or_without_a_gated_metric_is_refused(written):
    cells = json.loads(written.read_text(encoding="utf-8"))["cells"]
    with pytest.raises(ResultsError, match="mean_difference-layer8 is there 2 times"):
        read_baseline(edited(written, cells=[*cells, cells[1]]))
    edited(written, cells=cells)
    with pytest.raises(ResultsError, match="it holds no metric"):
        read_baseline(edited_cell(written, scores={}))
    score = {"value": 1.0, "n": 1, "items": [1.0]}
    with pytest.raises(ResultsError, match="one_word_changed is not a gated metric"):
        read_baseline(edited_cell(written, scores={"one_word_changed": score}))


def test_nan_among_the_parameters_is_refused(written):
    with pytest.raises(ResultsError, match="NaN"):
        read_baseline(edited_cell(written, parameters={"top": float("nan")}))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"cells": []}', b"[" * 100_000])
def test_what_is_no_baseline_is_one_message(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="not a baseline") as error:
        read_baseline(path)
    assert "\n" not in str(error.value)


def test_cut_off_baseline_is_refused_wherever_it_ends(written):
    content = written.read_bytes()
    for end in range(0, len(content) - 2, 97):
        written.write_bytes(content[:end])
        with pytest.raises(ResultsError, match="not a baseline"):
            read_baseline(written)


def test_baseline_of_another_schema_says_so(written):
    with pytest.raises(SchemaError, match="schema version 2; this release reads 1. Promote a run again"):
        read_baseline(edited(written, schema_version=2, cells="of another shape"))


def test_missing_baseline_and_a_directory_are_one_message(tmp_path):
    with pytest.raises(ResultsError, match="no such baseline; `steering baseline promote` writes one"):
        read_baseline(tmp_path / "none.json")
    with pytest.raises(ResultsError, match="a directory; `steering baseline promote` makes"):
        read_baseline(tmp_path)


def test_interrupted_write_leaves_the_old_baseline_and_nothing_else(written, monkeypatch):
    before, baseline = written.read_bytes(), baseline_of(cell(3))

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_baseline(baseline, written)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_full_disk_leaves_the_old_baseline_and_one_message(written, fill_disk):
    before, baseline = written.read_bytes(), baseline_of(cell(3))
    fill_disk()
    with pytest.raises(ResultsError, match="cannot be written: No space left on device"):
        write_baseline(baseline, written)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_place_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "b.json", tmp_path):
        with pytest.raises(ResultsError, match="cannot be written"):
            write_baseline(baseline_of(cell()), place)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file"]


def test_baseline_that_no_gate_could_use_cannot_be_built():
    with pytest.raises(ResultsError, match="it holds no cell"):
        dataclasses.replace(baseline_of(cell()), cells=())
