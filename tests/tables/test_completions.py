"""Words before and after steering."""

from __future__ import annotations

from steering.tables.completions import word_table
from tests.small_rows import small_row, unsteered_row

PROMPTS = ["He is a", "They were two"]


def test_words_stand_beside_their_prompts():
    rows = [
        small_row(metric="one_word_success", texts=("king", "boys"), layer=3, multiplier=2.0),
        unsteered_row(metric="one_word_success", texts=("queen", "girls")),
        small_row(metric="one_word_success", texts=("man", "men"), layer=4, multiplier=2.0),
        small_row(metric="one_word_success", texts=("men", "man"), layer=3, multiplier=3.0),
        small_row(metric="one_word_success", texts=("lord", "lords"), layer=3, method="other"),
        small_row(layer=3),
    ]
    assert word_table(rows, PROMPTS, "mean_difference", 3, 2.0) == [
        ["prompt", "no steering", "steered"],
        ["He is a", "queen", "king"],
        ["They were two", "girls", "boys"],
    ]


def test_rows_of_other_prompts_are_passed_over():
    rows = [unsteered_row(metric="one_word_success", texts=("queen",))]
    assert word_table(rows, PROMPTS, "mean_difference", 3, 2.0) == [["prompt"], ["He is a"], ["They were two"]]


def test_dose_is_the_one_that_was_asked_for():
    scaled = {"scaled_multiplier": 12.0, "norm_of": {"construction": "feature_delta"}}
    rows = [small_row(metric="one_word_success", texts=("king", "boys"), layer=3, multiplier=13.2, parameters=scaled)]
    assert word_table(rows, PROMPTS, "mean_difference", 3, 12.0)[1] == ["He is a", "king"]
