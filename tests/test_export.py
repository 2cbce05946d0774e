"""Tables of results, read back by other programs and by eye."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.export import feature_summary, sae_summary, summary, to_csv, to_markdown, to_text
from steering.results import SAE, Row
from steering.vectors import FeatureWeight
from tests.small_rows import small_row, unsteered_row

HEADINGS = [
    "method", "layer", "×", "norm", "P(success) [95 % CI]", "p", "p control",
    "Δ loss positive", "Δ loss negative", "Δ loss neutral", "words changed",
]  # fmt: skip
SAE_HEADINGS = [
    "SAE", "layer", "variance explained [95 % CI]", "L0", "loss, spliced in", "loss recovered", "silent features",
]  # fmt: skip
finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
awkward = st.lists(st.one_of(st.sampled_from(["\n", '"', ",", ";", "|", " "]), words), max_size=6).map("".join)


def configuration(**changes: object) -> list[Row]:
    """Every row that the summary shows of one vector."""
    return [
        small_row(**changes),
        small_row(metric="loss_change_positive", value=-0.12345, **changes),
        small_row(metric="loss_change_negative", value=0.5, **changes),
        small_row(metric="loss_change_neutral", value=0.0004, **changes),
        small_row(metric="one_word_changed", value=0.4, n=15, **changes),
    ]


def quality(**changes: object) -> list[Row]:
    """Every row of one SAE's quality."""
    common = {"method": SAE, "layer": 8, "multiplier": 0.0, "vector_hash": "", "vector_norm": None, "p_value": None}
    common |= {"parameters": {"sae": "saes/layer8", "d_sae": 64}} | changes
    values = {"variance_explained": 0.8, "l0": 32.25, "spliced_loss": 3.5, "loss_recovered": -0.125}
    rows = [
        small_row(metric=f"sae_{name}", value=value, low=0.75, high=0.85, **common) for name, value in values.items()
    ]
    return [*rows, small_row(metric="sae_silent_features", value=0.015, **common)]


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@given(value=finite, reason=awkward, parameters=st.dictionaries(awkward, st.one_of(finite, awkward), max_size=3))
def test_csv_holds_each_field_at_full_precision(value, reason, parameters):
    rows = [unsteered_row(reason=reason), small_row(value=value, p_value=value, p_control=value, parameters=parameters)]
    plain, steered = csv.DictReader(io.StringIO(to_csv(rows), newline=""))
    assert set(steered) == set(vars(rows[0])) - {"items", "texts", "features"}
    assert plain["reason"] == reason
    assert (plain["layer"], plain["vector_norm"], plain["p_value"], plain["p_control"]) == ("", "", "", "")
    assert float(steered["value"]) == float(steered["p_value"]) == float(steered["p_control"]) == value
    assert (steered["layer"], steered["metric"], steered["n"]) == ("1", "rollout_probability", "8")
    assert json.loads(steered["parameters"]) == parameters
    assert json.loads(steered["measurement"]) == rows[1].measurement


def test_csv_is_read_by_pandas():
    rows = [
        unsteered_row(value=None, status="failed", reason="a, b"),
        small_row(value=0.1 + 0.2),
        small_row(
            metric="loss_positive",
            value=1e-17,
            texts=("secret",),
            items=(1.5,),
            features=(FeatureWeight(7, 2.5, "secret"),),
        ),
    ]
    text = to_csv(rows)
    frame = pd.read_csv(io.StringIO(text), dtype={"value": str})
    assert frame["value"].isna().tolist() == [True, False, False]
    assert frame["value"].astype(float).tolist()[1:] == [0.1 + 0.2, 1e-17]
    assert frame["reason"].tolist()[0] == "a, b"
    assert [json.loads(cell) for cell in frame["measurement"]] == [row.measurement for row in rows]
    assert "secret" not in text


def test_csv_and_summaries_of_no_rows_have_headings_alone():
    assert next(csv.reader([to_csv([])]))[0] == "run"
    assert len(to_csv([]).splitlines()) == 1
    assert summary([]) == [HEADINGS]
    assert sae_summary([]) == [SAE_HEADINGS]
    assert to_markdown([]) == ""


def test_summary_of_a_worked_example():
    plain = [unsteered_row(value=0.125, low=0.0, high=0.5), unsteered_row(metric="loss_positive", value=3.0)]
    changes = ["-0.123", "+0.500", "+0.000", "6/15"]
    lines = summary([*configuration(multiplier=1.5, p_control=0.25), *plain])
    assert lines == [
        HEADINGS,
        ["unsteered", "", "", "", "0.125 [0.000, 0.500]", *[""] * 6],
        ["mean_difference", "1", "1.5", "4", "0.500 [0.250, 0.750]", "0.0312", "0.2500", *changes],
    ]


@pytest.mark.parametrize(
    ("multiplier", "vector_norm", "shown"),
    [(12.0, 2.5, "30"), (-12.0, 2.5, "30"), (0.0, 2.5, "0"), (78.51, 0.25, "20"), (1.0, None, "-")],
)
def test_norm_is_that_of_what_is_added(multiplier, vector_norm, shown):
    line = summary([small_row(multiplier=multiplier, vector_norm=vector_norm)])[1]
    assert line[HEADINGS.index("norm")] == shown


def test_multiplier_that_follows_from_a_norm_is_rounded():
    assert summary([small_row(multiplier=78.5123456)])[1][2] == "78.5"


@pytest.mark.parametrize(
    ("p_value", "shown"), [(0.99999, "1.0000"), (0.0001, "0.0001"), (0.00009, "< 0.0001"), (0.0, "< 0.0001")]
)
@pytest.mark.parametrize(("key", "heading"), [("p_value", "p"), ("p_control", "p control")])
def test_small_p_values_are_bounded_instead_of_rounded_to_0(p_value, shown, key, heading):
    assert summary([small_row(**{key: p_value})])[1][HEADINGS.index(heading)] == shown


def test_the_unsteered_run_is_first_and_layers_are_numbers():
    layers = [("random_direction", 8), ("mean_difference", 20), ("mean_difference", 8), ("mean_difference", 100)]
    rows = [small_row(method=method, layer=layer) for method, layer in layers]
    lines = summary([*rows, unsteered_row(), small_row(method="zero", layer=0)])
    assert [(line[0], line[1]) for line in lines[1:]] == [
        ("unsteered", ""),
        ("mean_difference", "8"),
        ("mean_difference", "20"),
        ("mean_difference", "100"),
        ("random_direction", "8"),
        ("zero", "0"),
    ]


def test_what_was_not_measured_is_a_dash():
    failed = {"value": None, "low": None, "high": None, "p_value": None, "n": 0, "status": "failed", "reason": "NaN"}
    lines = summary([small_row(**failed), small_row(metric="one_word_changed", **failed)])
    assert lines[1] == ["mean_difference", "1", "1", "2", *["-"] * 7]
    assert summary([unsteered_row(**failed)])[1] == ["unsteered", "", "", "", "-", *[""] * 6]


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"model": "other", "model_hash": "d"}, "model small", "model other"),
        ({"concept": "age", "data_hash": "d"}, "concept royalty", "concept age"),
        ({"dtype": "bfloat16"}, "dtype float32", "dtype bfloat16"),
        ({"toward": "negative", "seed": 7}, "toward positive, seed 0", "toward negative, seed 7"),
        ({"measurement": {"rollouts": 8, "top_p": 0.5}}, "top_p 0.95", "top_p 0.5"),
    ],
)
def test_runs_of_different_things_say_in_what_they_differ(change, before, after):
    lines = summary([small_row(), small_row(**change), unsteered_row(**change)])
    assert lines[0] == ["run", *HEADINGS]
    assert {line[0] for line in lines[1:]} == {before, after}
    assert [line[1] for line in lines[1:] if line[0] == after] == ["unsteered", "mean_difference"]
    assert all(len(line) == len(lines[0]) for line in lines)


def test_verdicts_are_the_last_column():
    rows = [unsteered_row(), small_row(layer=8), small_row(layer=20), small_row(method="random_direction", layer=8)]
    verdicts = {("mean_difference", 8): "holds", ("mean_difference", 20): "broken"}
    lines = summary(rows, verdicts)
    assert lines[0] == [*HEADINGS, "claim"]
    assert [line[-1] for line in lines[1:]] == ["", "holds", "broken", ""]
    assert [line[:-1] for line in lines] == summary(rows)
    assert summary(rows, {})[0][-1] == "claim"


def test_markdown_shows_the_summary():
    rows = [unsteered_row(), *configuration(), *configuration(layer=20)]
    header, rule, *body = to_markdown(rows).splitlines()
    assert [cells(line) for line in (header, *body)] == summary(rows)
    assert cells(rule) == ["---", *["---:"] * (len(HEADINGS) - 1)]


def test_saes_have_a_table_of_their_own():
    rows = [unsteered_row(), *configuration(), *quality()]
    assert summary(rows) == summary(rows[:-5]), "the table of vectors holds no SAE"
    assert sae_summary(rows) == [
        SAE_HEADINGS,
        ["saes/layer8", "8", "0.800 [0.750, 0.850]", "32.250", "3.500", "-0.125", "0.015"],
    ]


def test_saes_are_in_the_order_of_their_layers_with_their_verdicts():
    rows = [*quality(layer=20), *quality(layer=8), *quality(layer=8, parameters={"sae": "another"})]
    assert [line[:2] for line in sae_summary(rows)[1:]] == [
        ["saes/layer8", "8"],
        ["another", "8"],
        ["saes/layer8", "20"],
    ]
    lines = sae_summary(rows, {(SAE, 20): "broken", ("mean_difference", 8): "holds"})
    assert [line[-1] for line in lines] == ["claim", "", "", "broken"]
    assert [line[:-1] for line in lines] == sae_summary(rows)


def test_sae_that_could_not_be_measured_is_a_line_of_dashes():
    failed = {"value": None, "low": None, "high": None, "n": 0, "status": "failed", "reason": "NaN"}
    rows = [dataclasses.replace(row, **failed) for row in quality()]
    assert sae_summary(rows)[1:] == [["saes/layer8", "8", *["-"] * 5]]


def test_features_of_each_vector_are_listed_heaviest_first():
    weights = [FeatureWeight(number, weight, f"word {number}") for number, weight in ((7, 2.5), (3, -1.25), (9, 0.5))]
    rows = [*configuration(layer=20, features=(*weights, FeatureWeight(1, 0.1, "light"))), *configuration(layer=8)]
    assert feature_summary([*rows, unsteered_row(), *configuration(layer=3, features=tuple(weights[:1]))]) == [
        ["method", "layer", "feature", "weight", "description"],
        ["mean_difference", "3", "7", "+2.500", "word 7"],
        ["mean_difference", "20", "7", "+2.500", "word 7"],
        ["mean_difference", "20", "3", "-1.250", "word 3"],
        ["mean_difference", "20", "9", "+0.500", "word 9"],
    ]


def test_markdown_shows_every_table_that_has_lines():
    vectors, saes = [unsteered_row(), *configuration()], quality()
    features = configuration(features=(FeatureWeight(7, 2.5, "a | b"),))
    first, listed, second = to_markdown([*saes, unsteered_row(), *features]).split("\n\n")
    assert first + "\n" == to_markdown(vectors)
    assert cells(listed.splitlines()[-1]) == ["mean_difference", "1", "7", "+2.500", r"a \| b"]
    assert second == to_markdown(saes)
    header, rule, *body = second.splitlines()
    assert [cells(line) for line in (header, *body)] == sae_summary(saes)
    assert cells(rule) == ["---", *["---:"] * (len(SAE_HEADINGS) - 1)]


@given(method=awkward, model=awkward)
def test_markdown_keeps_its_columns_whatever_the_names(method, model):
    rows = [small_row(method=method), small_row(model=model, model_hash="d"), unsteered_row()]
    lines = to_markdown(rows).split("\n")
    assert lines.pop() == ""
    assert len(lines) == 2 + 3
    assert len({len(cells(line)) for line in lines}) == 1
    shown = [cell.replace("\\|", "|") for line in lines for cell in cells(line)]
    assert method.replace("\n", " ").strip() in shown


@given(st.lists(st.lists(words, min_size=3, max_size=3), min_size=1, max_size=6))
def test_text_wide_enough_shows_every_value_on_its_own_line(body):
    lines = to_text([["first", "second", "third"], *body], 120).splitlines()
    shown = [line.split() for line in lines if line.strip() and not set(line.strip()) <= {"─", " "}]
    assert shown == [["first", "second", "third"], *body]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_text_is_no_wider_than_the_terminal_and_loses_nothing(width):
    lines = summary([unsteered_row(), *configuration(), *configuration(layer=20, method="random_direction")])
    text = to_text(lines, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    letters = sorted(re.sub(r"[\s─]", "", text))
    assert letters == sorted(re.sub(r"\s", "", "".join(cell for line in lines for cell in line)))


def test_text_takes_brackets_literally():
    assert "[bold]x[/bold]" in to_text([["name"], ["[bold]x[/bold]"]], 60)
    assert ":smile:" in to_text([["name"], [":smile:"]], 60)


def test_text_aligns_numbers_to_the_right():
    lines = to_text([["method", "value"], ["a", "1.0"], ["long name", "-10.0"]], 60).splitlines()
    ends = {len(line.rstrip()) for line in lines if "1" in line}
    assert len(ends) == 1
    assert {line.index(word) for line in lines for word in ("a  ", "long") if word in line} == {1}
