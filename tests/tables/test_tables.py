"""Tables of what was measured, for people."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.feature_weights import FeatureWeight
from steering.results import SAE
from steering.tables.cells import feature_summary, sae_summary, summary
from steering.tables.terminal import aligned
from steering.tables.wording import p_value
from tests.small_rows import configuration, quality, small_row, unsteered_row

HEADINGS = [
    "method", "layer", "×", "norm", "P(success) [95 % CI]", "p", "p control",
    "Δ loss positive", "Δ loss negative", "Δ loss neutral", "words changed",
]  # fmt: skip
ADJUSTED = ["p (Holm)" if heading == "p" else heading for heading in HEADINGS]
SAE_HEADINGS = [
    "SAE", "layer", "variance explained [95 % CI]", "L0", "loss, spliced in", "loss recovered", "silent features",
]  # fmt: skip
words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


def test_summaries_of_no_rows_have_headings_alone():
    assert summary([]) == [HEADINGS]
    assert sae_summary([]) == [SAE_HEADINGS]


def test_summary_of_a_worked_example():
    plain = [unsteered_row(value=0.125, low=0.0, high=0.5), unsteered_row(metric="loss_positive", value=3.0)]
    changes = ["-0.123", "+0.500", "+0.000", "6/15"]
    lines = summary([*configuration(multiplier=1.5, p_control=0.25), *plain])
    assert lines == [
        HEADINGS,
        ["unsteered", "", "", "", "0.125 [0.000, 0.500]", *[""] * 6],
        ["mean_difference", "1", "1.5", "3.75", "0.500 [0.250, 0.750]", "0.0312", "0.2500", *changes],
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
    assert lines[1] == ["mean_difference", "1", "1", "2.5", *["-"] * 7]
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
    cells = [small_row(layer=8), small_row(layer=20), small_row(method="random_direction", layer=8, is_control=True)]
    rows = [unsteered_row(), *cells]
    verdicts = {("mean_difference", 8): "holds", ("mean_difference", 20): "broken"}
    lines = summary(rows, verdicts)
    assert lines[0] == [*ADJUSTED, "claim"]
    assert [line[-1] for line in lines[1:]] == ["", "holds", "broken", "no claim"]
    assert [line[:-1] for line in lines] == summary(rows)
    assert summary(rows, {})[0][-1] == "claim"


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
    rows += configuration(layer=5, features=tuple(weights), is_control=True)
    assert feature_summary([*rows, unsteered_row(), *configuration(layer=3, features=tuple(weights[:1]))]) == [
        ["method", "layer", "feature", "weight", "description"],
        ["mean_difference", "3", "7", "+2.500", "word 7"],
        ["mean_difference", "20", "7", "+2.500", "word 7"],
        ["mean_difference", "20", "3", "-1.250", "word 3"],
        ["mean_difference", "20", "9", "+0.500", "word 9"],
    ]


def test_features_of_a_vector_are_shown_once_whatever_its_doses():
    weights = (FeatureWeight(7, 2.5, "word 7"),)
    doses = [small_row(multiplier=multiplier, features=weights) for multiplier in (1.0, 2.0)]
    assert len(feature_summary(doses)) == 2
    assert len(feature_summary([*doses, small_row(features=weights, vector_hash="another")])) == 3


@given(st.lists(st.lists(words, min_size=3, max_size=3), min_size=1, max_size=6))
def test_text_wide_enough_shows_every_value_on_its_own_line(body):
    lines = aligned([["first", "second", "third"], *body], 120).splitlines()
    shown = [line.split() for line in lines if line.strip() and not set(line.strip()) <= {"─", " "}]
    assert shown == [["first", "second", "third"], *body]


def test_text_takes_brackets_literally():
    assert "[bold]x[/bold]" in aligned([["name"], ["[bold]x[/bold]"]], 60)
    assert ":smile:" in aligned([["name"], [":smile:"]], 60)


def test_text_aligns_numbers_to_the_right():
    lines = aligned([["method", "value"], ["a", "1.0"], ["long name", "-10.0"]], 60).splitlines()
    ends = {len(line.rstrip()) for line in lines if "1" in line}
    assert len(ends) == 1
    assert {line.index(word) for line in lines for word in ("a  ", "long") if word in line} == {1}


def holm(values: list[float]) -> list[float]:
    """Step down by hand: the smallest p times their number, the next times one fewer, never below the one before."""
    adjusted, floor = {}, 0.0
    for rank, value in enumerate(sorted(values)):
        floor = max(floor, min(1.0, value * (len(values) - rank)))
        adjusted[value] = floor
    return [adjusted[value] for value in values]


@pytest.mark.parametrize("seed", range(3))
def test_p_values_are_adjusted_over_the_cells_that_are_no_controls(seed):
    values, others = np.random.default_rng(seed).beta(0.5, 4, size=(2, 9)).tolist()
    rows = [small_row(layer=layer, p_value=value, p_control=value / 2) for layer, value in enumerate(values)]
    rows += [small_row(method="noise", layer=layer, p_value=p, is_control=True) for layer, p in enumerate(others)]
    header, *lines = summary(rows)
    at, against = header.index("p (Holm)"), header.index("p control (Holm)")
    assert [line[at] for line in lines[: len(values)]] == [p_value(p) for p in holm(values)]
    assert [line[against] for line in lines[: len(values)]] == [p_value(p) for p in holm([p / 2 for p in values])]
    assert [line[at] for line in lines[len(values) :]] == [f"({p_value(p)})" for p in others]


def test_p_values_of_a_published_example_reject_as_published():
    # Benjamini and Hochberg 1995, section 4: at .05 Bonferroni and Hochberg, between which Holm is, reject three.
    raw = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528]
    raw += [0.7590, 1.0000]
    header, *lines = summary([small_row(layer=layer, p_value=value) for layer, value in enumerate(raw)])
    adjusted = [float(line[header.index("p (Holm)")]) for line in lines]
    assert [value <= 0.05 for value in adjusted] == [True] * 3 + [False] * 12
    assert adjusted[0] == 0.0015


def test_p_values_of_other_circumstances_are_adjusted_by_themselves():
    pair = [small_row(layer=8, p_value=0.01), small_row(layer=9, p_value=0.02)]
    rows = [*pair, small_row(layer=8, p_value=0.03, seed=7)]
    header, *lines = summary(rows)
    found = {(line[0], line[2]): line[header.index("p (Holm)")] for line in lines}
    assert found == {("seed 0", "8"): "0.0200", ("seed 0", "9"): "0.0200", ("seed 7", "8"): "0.0300"}


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"data_hash": "0123456789"}, "texts d", "texts 01234567"),
        ({"model_hash": "0123456789"}, "weights m", "weights 01234567"),
        ({"model_settings_hash": "0123456789"}, "model settings unknown", "model settings 01234567"),
        ({"device": "cuda"}, "device cpu", "device cuda"),
    ],
)
def test_what_changed_behind_its_name_is_another_run(change, before, after):
    rows = [small_row(layer=layer, p_value=0.02, data_hash="d", model_hash="m", device="cpu") for layer in (8, 9)]
    changed = [dataclasses.replace(row, p_value=0.03, **change) for row in rows]
    header, *lines = summary([*rows, *changed])
    found = [(line[0], line[header.index("p (Holm)")]) for line in lines]
    assert sorted(found) == sorted([(before, "0.0400"), (before, "0.0400"), (after, "0.0600"), (after, "0.0600")])


def test_single_cell_beside_its_control_is_not_adjusted():
    rows = [small_row(p_value=0.01), small_row(method="noise", p_value=0.4, is_control=True)]
    header, cell, control = summary(rows)
    assert header == HEADINGS
    assert (cell[5], control[5]) == ("0.0100", "0.4000")


def test_selection_of_cells_keeps_their_adjusted_p_values():
    rows = [small_row(layer=layer, p_value=0.01) for layer in range(4)]
    assert summary(rows[:1], among=rows)[1] == summary(rows)[1]
    assert summary(rows)[1][5] == "0.0400"


def test_columns_of_metrics_that_were_not_selected_are_left_out():
    rows = [unsteered_row(), *configuration()]
    assert summary(rows[:2], among=rows)[0] == HEADINGS[:7]
    assert summary(rows[2:4], among=rows)[0] == [*HEADINGS[:4], "Δ loss positive", "Δ loss negative"]


def test_text_holds_nothing_that_moves_a_cursor():
    text = aligned([["method"], ["a\x1b[2Jb\u202ec\rd\te"]], 60)
    assert "a\ufffd[2Jb\ufffdc d e" in text


@pytest.mark.parametrize("width", [20, 40, 80, 100, 120, 200])
def test_table_that_is_too_wide_becomes_several_and_folds_no_number(width):
    """Headings that name a line come first in each; every value stands there whole."""
    table = summary([unsteered_row(), *configuration(), *configuration(method="feature_delta", layer=20)])
    text = aligned(table, width)
    assert all(cell in text for line in table for cell in line)
    assert text.split()[0] == "method"
    assert "\x1b" not in text
    assert text.count("feature_delta") == text.count("method ") >= (1 if width == 200 else 2)
    if width >= 80:
        assert max(map(len, text.splitlines())) <= width
    if width == 200:
        letters = sorted(re.sub(r"[\s─]", "", text))
        assert letters == sorted(re.sub(r"\s", "", "".join(cell for line in table for cell in line)))


def test_words_are_folded_and_lines_without_a_name_are_not_taken_apart():
    table = [["feature", "description"], ["7", "fires on " + "she, " * 40]]
    text = aligned(table, 60)
    assert text.count("feature") == 1
    assert max(map(len, text.splitlines())) <= 60
