"""The journal: nothing that was written is lost, and nothing damaged is taken for a result."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steering.errors import ResultsError
from steering.feature_weights import FeatureWeight
from steering.journal import FILE_NAME, Journal, load_rows
from tests.small_rows import small_row, unsteered_row

SEPARATORS = "one\ntwo\r\nthree\rfour\u2028five\u2029six\x85seven\x0b\x0c\x1ceight\x00"
OTHER_SETTINGS = {
    "dtype": "other",
    "layer": 11,
    "multiplier": -1.0,
    "seed": 1,
    "parameters": {"seed": 1},
    "measurement": {"rollouts": 8},
}

finite = st.floats(-1e100, 1e100)
probabilities = st.floats(0, 1)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
fresh_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_lines(directory: Path, *lines: str) -> Path:
    path = directory / FILE_NAME
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def changed(**changes: object) -> str:
    """A row's line with some of its keys changed by hand."""
    return json.dumps(json.loads(small_row().to_json()) | changes)


@contextmanager
def disk_of(size: int):
    """Let the operating system refuse to write files beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@fresh_file
@given(items=st.lists(finite, min_size=1, max_size=5), width=st.floats(0, 1e99), texts=st.lists(names))
def test_rows_are_read_back_at_full_precision(tmp_path, items, width, texts):
    value = fmean(items)
    low, high = value - width, value + width
    measured = {"metric": "loss_neutral", "value": value, "low": low, "high": high, "items": tuple(items)}
    row = small_row(multiplier=value, texts=tuple(texts), **measured)
    (tmp_path / FILE_NAME).unlink(missing_ok=True)
    Journal(tmp_path).append([row])
    [found] = load_rows(tmp_path)
    assert found == row
    assert repr(found) == repr(row)
    assert found.texts == tuple(texts)


weights = st.builds(FeatureWeight, feature=st.integers(0, 2**40), weight=finite, description=names)


@fresh_file
@given(p_control=st.none() | probabilities, features=st.lists(weights, max_size=3))
def test_the_control_s_test_and_the_features_are_read_back(tmp_path, p_control, features):
    row = small_row(p_control=p_control, features=tuple(features))
    (tmp_path / FILE_NAME).unlink(missing_ok=True)
    Journal(tmp_path).append([row])
    assert load_rows(tmp_path) == [row]
    record = json.loads((tmp_path / FILE_NAME).read_text(encoding="utf-8"))
    assert record["p_control"] == p_control
    assert [tuple(entry.values()) for entry in record["features"]] == [
        (entry.feature, entry.weight, entry.description) for entry in features
    ]


def test_a_row_of_a_run_before_there_were_controls_and_features_is_read(tmp_path):
    record = json.loads(small_row().to_json())
    del record["p_control"], record["features"]
    write_lines(tmp_path, json.dumps(record))
    assert load_rows(tmp_path) == [small_row()]


def test_line_breaks_of_any_kind_survive_in_texts(tmp_path):
    rows = [small_row(metric=f"metric {index}", texts=(SEPARATORS, "é🙂"), reason=SEPARATORS) for index in range(3)]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows
    assert (tmp_path / FILE_NAME).read_bytes().count(b"\n") == 3


def test_each_line_is_one_json_object_with_every_field(tmp_path):
    Journal(tmp_path).append(
        [unsteered_row(), small_row(metric="loss_neutral", value=0.05, items=(0.1, 1e-300), texts=("é",))]
    )
    records = [json.loads(line) for line in (tmp_path / FILE_NAME).read_text(encoding="utf-8").splitlines()]
    assert [record["layer"] for record in records] == [None, 1]
    assert records[1]["items"] == [0.1, 1e-300]
    assert records[1]["schema_version"] == 1
    assert set(records[0]) == set(records[1]) == set(vars(small_row()))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "place", ["value", "items", "multiplier", "vector_norm", "parameters", "p_control", "features"]
)
def test_nan_and_infinity_are_not_written(tmp_path, wrong, place):
    inside = {"items": (0.0, wrong), "parameters": {"strength": wrong}, "features": (FeatureWeight(3, wrong, ""),)}
    content = inside.get(place, wrong)
    journal = Journal(tmp_path)
    journal.append([unsteered_row()])
    row = small_row(**{place: content})
    with pytest.raises(ResultsError, match="is not written: "):
        journal.append([small_row(), row])
    assert load_rows(tmp_path) == [unsteered_row()]
    with pytest.raises(ValueError, match="JSON"):
        row.to_json()


@pytest.mark.parametrize(
    "field",
    ["model", "model_hash", "model_settings_hash", "neutral", "data_hash", "method", "metric", *OTHER_SETTINGS],
)
def test_measurements_that_cannot_be_compared_are_kept_apart(tmp_path, field):
    rows = [small_row(), small_row(**{field: OTHER_SETTINGS.get(field, "other")})]
    Journal(tmp_path).append(rows)
    assert load_rows(tmp_path) == rows


def test_the_order_of_settings_does_not_make_a_new_measurement():
    measurement = {"top_p": 0.95, "rollouts": 8}
    assert small_row(measurement=measurement).key == small_row().key


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "Invalid JSON: EOF while parsing"),
        ('{"run": "r"}', "schema_version"),
        ("[1]", "not a results row"),
        ("null", "not a results row"),
        ("[" * 100_000, "Invalid JSON: recursion limit"),
        (changed(surprise=1), "surprise is 1; "),
        (changed(items=None), "items is None; "),
        (changed(p_control="0.5"), "p_control is '0.5'; "),
        (changed(features=[{"feature": 1, "weight": 0.5}]), "missing features.0.description"),
        (changed(features=[{"feature": 1.5, "weight": 0.5, "description": ""}]), "features.0.feature is 1.5; "),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, fault):
    path = write_lines(tmp_path, unsteered_row().to_json(), "", line, small_row().to_json())
    with pytest.raises(ResultsError, match=rf"results\.jsonl:3: (not a results row: )?.*{fault}") as caught:
        load_rows(path)
    assert str(path) in str(caught.value)


def test_a_line_with_a_field_of_the_wrong_type_is_named(tmp_path):
    write_lines(tmp_path, unsteered_row().to_json(), changed(layer=[1]))
    with pytest.raises(ResultsError, match=r"results\.jsonl:2: .*layer"):
        load_rows(tmp_path)


@pytest.mark.parametrize("version", [0, 2])
def test_another_schema_version_is_refused(tmp_path, version):
    write_lines(tmp_path, small_row().to_json(), changed(schema_version=version))
    with pytest.raises(ResultsError, match=rf"results\.jsonl:2: schema version {version!r}; this release reads 1"):
        load_rows(tmp_path)


def test_a_missing_file_is_named_with_what_to_give(tmp_path):
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(
            ResultsError, match=r"no such file; give a results directory or its results\.jsonl"
        ) as caught:
            load_rows(path)
        assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\n")
    with pytest.raises(ResultsError, match=r"results\.jsonl:1: not a results row: Invalid JSON"):
        load_rows(tmp_path)


@pytest.mark.parametrize(("place", "fault"), [("file", "File exists"), ("file/below", "Not a directory")])
def test_a_directory_that_cannot_be_created_is_refused(tmp_path, place, fault):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ResultsError, match=rf"cannot be written to {tmp_path / place}: {fault}.*another directory"):
        Journal(tmp_path / place)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


def test_a_journal_that_cannot_be_opened_is_refused(tmp_path, monkeypatch):
    (tmp_path / "taken" / FILE_NAME).mkdir(parents=True)
    with pytest.raises(ResultsError, match=r"taken: Is a directory.*another directory"):
        Journal(tmp_path / "taken")

    def denied(*_arguments, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ResultsError, match=rf"cannot be written to {tmp_path}: Permission denied.*another directory"):
        Journal(tmp_path)


def test_a_disk_that_fills_up_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "deep" / "down")
    journal.append([unsteered_row()])
    before = journal.path.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResultsError, match=rf"{journal.path}: .*No space left on device.*kept.*another directory"):
            journal.append([small_row()])
    assert journal.path.read_bytes() == before
    journal.append([small_row()])
    assert load_rows(journal.path) == [unsteered_row(), small_row()]


@pytest.mark.parametrize(("room", "fault"), [(0, "File too large"), (100, "only a part"), (2000, "only a part")])
def test_a_disk_that_takes_a_part_leaves_the_file_as_it_was(tmp_path, room, fault):
    journal = Journal(tmp_path)
    journal.append([unsteered_row()])
    before = journal.path.read_bytes()
    with (
        disk_of(len(before) + room),
        pytest.raises(ResultsError, match=rf"results\.jsonl: .*{fault}.*another directory"),
    ):
        journal.append([small_row(metric=f"metric {index}") for index in range(10)])
    assert journal.path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"multiplier": 1e101}, "multiplier: larger than 1e\\+100"),
        ({"parameters": {"neutral_budget": 1e101}}, "parameters.neutral_budget: not a number of at most"),
        ({"low": 0.6}, "value: 0.5 is not between low"),
        ({"items": (True, False)}, "items.0 is True; it should be a valid number"),
        ({"texts": (None,)}, "texts.0 is None; it should be a valid string"),
        ({"layer": 1.5}, "layer is 1.5; it should be a valid integer"),
        ({"multiplier": "1"}, "multiplier is '1'; it should be a valid number"),
        ({"parameters": {"words": {1, 2}}}, "Object of type set is not JSON serializable"),
    ],
)
def test_row_that_could_not_be_read_again_is_not_written(tmp_path, changes, fault):
    """It would make all rows of the journal unreadable."""
    journal = Journal(tmp_path)
    journal.append([unsteered_row()])
    told = rf"results\.jsonl: rollout_probability of mean_difference-layer[\d.]+ is not written: {fault}"
    with pytest.raises(ResultsError, match=told):
        journal.append([small_row(), small_row(**changes)])
    assert load_rows(tmp_path) == [unsteered_row()]


def test_processes_that_append_together_lose_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from steering.journal import Journal; from tests.small_rows import small_row\n"
        "for layer in range(40): Journal(Path(sys.argv[1])).append([small_row(run=sys.argv[2], layer=layer)] * 2)"
    )
    commands = [[sys.executable, "-c", code, str(tmp_path), name] for name in ("a", "b")]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[1]) for command in commands]
    assert [process.wait(120) for process in processes] == [0, 0]
    lines = (tmp_path / FILE_NAME).read_text(encoding="utf-8").splitlines()
    found = [(row["run"], row["layer"]) for row in map(json.loads, lines)]
    assert sorted(found) == sorted((name, layer) for name in "ab" for layer in range(40) for _ in range(2))


def test_file_name_that_is_no_text_is_kept_as_far_as_it_is_one(tmp_path):
    Journal(tmp_path).append([small_row(parameters={"path": "caf\udce9"})])
    assert load_rows(tmp_path)[0].parameters == {"path": "caf?"}
