"""Tables that hold cells against others: worked examples, and choices made again by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.results import Row
from steering.tables.comparisons import control_summary, dose_summary, selection_summary
from tests.small_rows import small_row, unsteered_row

CONTROLS = ["method", "layer", "P(success)", "control", "null cells", "highest", "p empirical", "other controls"]
DOSES = ["method", "layer", "×", "norm", "budget", "Δ loss development", "Δ loss test", "optimism"]
SELECTION = ["method", "layer", "×", "P development", "P test [95 % CI]", "optimism", "best on test"]
SHARES = st.integers(0, 20).map(lambda count: count / 20)


def held(layer: int, value: float, **changes: object) -> Row:
    """A cell that was held against a control whose only rollout came out as its own."""
    return small_row(layer=layer, value=value, **({"control": "random", "p_control": 1.0, "items": (0.0,)} | changes))


def noise(layer: int, value: float, draw: int = 0, **changes: object) -> Row:
    """A random control."""
    parameters = {"construction": "random_direction", "seed": draw} | changes.pop("parameters", {})
    control = {"method": f"random_{draw}" if draw else "random", "is_control": True, "parameters": parameters}
    control |= {"items": (0.0,)}
    return small_row(layer=layer, value=value, **(control | changes))


def flipped(layer: int, value: float) -> Row:
    return noise(layer, value, method="sign_flipped", parameters={"construction": "sign_flipped"})


def test_cell_beside_its_controls():
    rows = [unsteered_row(), held(8, 0.4), noise(8, 0.05), noise(8, 0.15, 1)]
    rows += [noise(9, 0.1), noise(9, 0.4, 1), flipped(8, 0.01), flipped(9, 0.02)]
    assert control_summary(rows) == [
        CONTROLS,
        ["mean_difference", "8", "0.400", "0.050", "4", "0.400", "0.4000", "sign_flipped 0.010"],
    ]


def test_null_cells_of_sums_of_features_come_from_saes_of_several_layers():
    def features(layer: int, value: float) -> Row:
        sae = {"sae": f"layer{layer}", "sae_hash": str(layer) * 64, "hook_name": f"blocks.{layer}.hook_resid_post"}
        parameters = {"construction": "random_features", "descriptions_hash": f"d{layer}"} | sae
        return noise(layer, value, method="random features", parameters=parameters)

    cells = [held(layer, 0.4, method="feature_delta", control="random features") for layer in (8, 12)]
    lines = control_summary([*cells, features(8, 0.1), features(12, 0.2), features(16, 0.3)])
    assert [line[4:7] for line in lines[1:]] == [["3", "0.300", "0.2500"]] * 2


def test_of_controls_of_one_norm_the_last_is_the_one_that_was_held_against():
    rows = [held(8, 0.4), noise(8, 0.1), noise(8, 0.3, 2, method="random")]
    assert control_summary(rows)[1][3] == "0.300"


def test_null_cells_that_are_scaled_to_a_norm_share_the_dose_that_was_asked_for():
    def scaled(layer: int, value: float, asked: float) -> Row:
        reference = {"construction": "feature_delta", "sae_hash": str(layer) * 64}
        parameters = {"norm_of": reference, "scaled_multiplier": asked}
        return noise(layer, value, multiplier=asked * (3 + layer), parameters=parameters)

    rows = [held(8, 0.4), scaled(8, 0.1, 12.0)]
    rows += [scaled(9, 0.2, 12.0), scaled(10, 0.3, 6.0)]
    assert control_summary(rows)[1][3:6] == ["0.100", "2", "0.200"]


def test_null_cells_of_one_cell_are_no_other_controls_of_its_neighbour():
    cells = [held(8, 0.4), small_row(method="other", layer=8, value=0.3)]
    lines = control_summary([*cells, noise(8, 0.05), flipped(8, 0.01)])
    assert [line[-1] for line in lines[1:]] == ["sign_flipped 0.010"] * 2


@given(value=SHARES, null=st.lists(SHARES, min_size=1, max_size=12))
def test_empirical_p_value_is_the_rank_among_null_cells_and_itself(value, null):
    rows = [held(0, value)]
    rows += [noise(0, found, seed) for seed, found in enumerate(null)]
    [_, line] = control_summary(rows)
    everything = np.array([value, *null])
    assert line[CONTROLS.index("p empirical")] == f"{(everything >= value).mean():.4f}"
    assert line[CONTROLS.index("null cells")] == str(len(null))
    assert line[CONTROLS.index("highest")] == f"{max(null):.3f}"


@pytest.mark.parametrize(
    "other",
    [
        noise(9, 0.9, 1, multiplier=3.0),
        noise(9, 0.9, 1, seed=7),
        noise(9, 0.9, 1, parameters={"construction": "random_features"}),
        noise(9, 0.9, 1, parameters={"reference": "hand_crafted"}),
        noise(9, 0.9, 1, is_control=False),
        noise(9, 0.9, 1, metric="one_word_success"),
        noise(9, None, 1, status="failed"),
    ],
)
def test_cells_of_another_kind_dose_or_run_do_not_belong_to_the_null_cells(other):
    rows = [held(8, 0.4), noise(8, 0.05), other]
    lines = control_summary(rows)
    at = lines[0].index("null cells")
    assert [line[at] for line in lines if "0.400" in line[:5]] == ["1"]


def test_controls_at_a_budget_share_a_dose_whatever_their_multipliers():
    spent = [{"neutral_budget": 0.05, "development_loss_change": change} for change in (0.048, 0.051, 0.049)]
    rows = [
        held(8, 0.4, multiplier=9.0, parameters=spent[0]),
        noise(8, 0.05, multiplier=11.0, parameters=spent[1]),
        noise(9, 0.1, multiplier=20.0, parameters=spent[2]),
        noise(9, 0.5, multiplier=20.0, parameters=spent[2] | {"neutral_budget": 0.5}),
    ]
    assert control_summary(rows)[1][3:7] == ["0.050", "2", "0.100", "0.3333"]


def test_control_of_several_doses_is_the_one_of_nearest_norm():
    cell = held(8, 0.4, multiplier=6.0, vector_norm=2.0)
    rows = [cell, noise(8, 0.1, multiplier=5.0, vector_norm=9.0), noise(8, 0.2, multiplier=-1.0, vector_norm=11.0)]
    assert control_summary(rows)[1][3] == "0.200"


def test_doses_of_a_method_are_told_apart_and_cells_without_any_control_left_out():
    rows = [held(8, 0.4, multiplier=dose) for dose in (6.0, 12.0)]
    rows += [noise(8, 0.1), small_row(layer=9, method="alone", value=0.3)]
    assert [line[0] for line in control_summary(rows)[1:]] == ["mean_difference ×6", "mean_difference ×12"]


def test_control_of_a_negative_multiplier_is_as_near_as_what_it_adds_is_long():
    cell = held(8, 0.4, multiplier=6.0, vector_norm=2.0)
    rows = [cell, noise(8, 0.1, multiplier=5.0, vector_norm=4.0), noise(8, 0.2, multiplier=-1.0, vector_norm=11.0)]
    assert control_summary(rows)[1][3] == "0.200"


def test_controls_at_nearly_the_same_dose_are_no_null_cells():
    rows = [held(8, 0.4, multiplier=10.0), noise(8, 0.1, multiplier=10.0), noise(9, 0.2, multiplier=10.5)]
    assert control_summary(rows)[1][4] == "1"


def test_control_that_a_cell_was_not_held_against_is_none_of_it():
    items, failing, succeeding = (1.0, 1.0, 1.0, 0.0), (0.0,) * 4, (1.0,) * 4
    cell = small_row(layer=8, value=0.75, items=items, multiplier=6.0, control="random", p_control=0.125)
    far = noise(8, 0.0, items=failing, multiplier=12.0)
    near = noise(8, 1.0, items=succeeding, multiplier=6.5)
    assert control_summary([cell, far, near])[1][3:5] == ["0.000", "1"], "three gains of three: 0.5 ** 3"
    assert control_summary([cell, near])[1][3:5] == ["-", "0"]
    assert control_summary([replace(cell, p_control=None), far, near])[1][3:5] == ["-", "0"], "its control failed"


def test_control_of_a_cell_at_a_budget_was_at_that_budget_too():
    spent = {"neutral_budget": 0.05, "development_loss_change": 0.05}
    rows = [
        held(8, 0.4, multiplier=11.0, vector_norm=1.0, parameters=spent),
        noise(8, 0.1, multiplier=22.0, vector_norm=1.0, parameters=spent),
        noise(8, 0.2, multiplier=12.0, vector_norm=1.0),
    ]
    assert control_summary(rows)[1][3:6] == ["0.100", "1", "0.100"]


def test_cell_without_a_control_is_shown_beside_the_others():
    assert control_summary([small_row(layer=8, value=0.4), flipped(8, 0.01)])[1][3:] == [
        *["-", "0", "-", "-"],
        "sign_flipped 0.010",
    ]
    assert control_summary([small_row(layer=8)]) == [CONTROLS]


def test_doses_show_what_the_budget_cost_in_development_and_on_test():
    spent = {"neutral_budget": 0.05, "development_loss_change": 0.048}
    cell = {"layer": 8, "multiplier": 9.5, "vector_norm": 4.0, "parameters": spent}
    rows = [small_row(**cell), small_row(**cell, metric="loss_change_neutral", value=0.0605), small_row(layer=9)]
    assert dose_summary(rows) == [
        [*DOSES, "P(success) [95 % CI]"],
        ["mean_difference", "8", "9.5", "38", "+0.050", "+0.048", "+0.060", "+0.012", "0.500 [0.250, 0.750]"],
    ]
    assert dose_summary(rows[:1])[1][6:8] == ["-", "-"]


def test_vector_that_could_not_be_made_had_no_dose():
    lost = {"status": "failed", "reason": "no feature", "vector_hash": "", "vector_norm": None, "value": None, "n": 0}
    row = small_row(**lost, low=None, high=None, p_value=None, parameters={"neutral_budget": 0.05})
    assert dose_summary([row]) == [[*DOSES, "P(success) [95 % CI]"]]


def cell(split: str, layer: int, success: float, loss: float, **changes: object) -> list[Row]:
    """A cell on one split; what was measured in development has other texts."""
    there = {"data_hash": "d", "measurement": small_row().measurement | {"split": "development"}}
    common = {"layer": layer, **(there if split == "development" else {}), **changes}
    bounds = {"value": loss - 0.01, "low": loss - 0.02, "high": loss}
    return [small_row(value=success, **common), small_row(metric="loss_change_neutral", **bounds, **common)]


def test_layer_is_chosen_in_development_and_reported_on_test():
    rows = [*cell("development", 8, 0.5, 0.05), *cell("development", 9, 0.6, 0.05), *cell("development", 10, 0.9, 0.2)]
    rows += [*cell("test", 8, 0.55, 0.05), *cell("test", 9, 0.45, 0.05), *cell("test", 10, 0.95, 0.2)]
    rows += cell("development", 11, 0.99, 0.01, method="noise", is_control=True)
    assert selection_summary(rows) == [
        SELECTION,
        ["mean_difference", "9", "1", "0.600", "0.450 [0.250, 0.750]", "+0.150", "0.550 (layer 8, ×1)"],
    ]
    assert selection_summary(rows, neutral_bound=0.3)[1][1:4] == ["10", "1", "0.900"]
    assert selection_summary(rows, neutral_bound=0.01)[1] == ["mean_difference", *["-"] * 6]
    assert selection_summary(rows[6:]) == [SELECTION], "without a development split nothing was chosen"


@given(st.lists(st.tuples(SHARES, SHARES, st.booleans()), min_size=1, max_size=6))
def test_choice_equals_the_best_of_all_that_is_allowed(found):
    rows = []
    for layer, (development, test, allowed) in enumerate(found):
        loss = 0.05 if allowed else 0.15
        rows += cell("development", layer, development, loss) + cell("test", layer, test, loss)
    line = selection_summary(rows)[1]
    eligible = [layer for layer, (*_, allowed) in enumerate(found) if allowed]
    if not eligible:
        assert line[1:] == ["-"] * 6
        return
    chosen = eligible[int(np.argmax([found[layer][0] for layer in eligible]))]
    assert line[1:4] == [str(chosen), "1", f"{found[chosen][0]:.3f}"]
    assert line[5] == f"{found[chosen][0] - found[chosen][1]:+.3f}"
    assert line[6].startswith(f"{max(found[layer][1] for layer in eligible):.3f} ")


def test_of_layers_that_succeed_equally_the_lowest_is_chosen_whatever_was_measured_first():
    rows = [*cell("development", 9, 0.5, 0.05), *cell("development", 8, 0.5, 0.05), *cell("development", 0, 0.5, 0.15)]
    assert selection_summary(rows)[1][1] == "8"


def test_cell_whose_interval_reaches_beyond_the_bound_is_not_chosen():
    rows = [*cell("development", 8, 0.5, 0.05), *cell("development", 9, 0.9, 0.105)]
    assert selection_summary(rows)[1][1] == "8"


def test_choice_does_not_depend_on_which_cells_are_shown():
    rows = [*cell("development", 8, 0.5, 0.05), *cell("development", 9, 0.6, 0.05), *cell("test", 8, 0.5, 0.05)]
    assert selection_summary(rows[:1], rows) == selection_summary(rows)
    assert selection_summary([small_row(method="other")], rows) == [SELECTION]


def test_models_choose_their_own_layers():
    rows = [*cell("development", 8, 0.5, 0.05), *cell("test", 8, 0.4, 0.05)]
    rows += [*cell("development", 9, 0.7, 0.05, model="other", model_hash="d")]
    header, *lines = selection_summary(rows)
    assert header == ["run", *SELECTION]
    assert [(line[0], line[2]) for line in lines] == [("model other", "9"), ("model small", "8")]
    assert lines[0][5:] == ["-", "-", "-"]


def test_choice_of_one_seed_is_held_against_the_test_of_the_same_seed():
    rows = [*cell("development", 8, 0.5, 0.05), *cell("development", 8, 0.6, 0.05, seed=1)]
    rows += [*cell("test", 8, 0.4, 0.05), *cell("test", 8, 0.3, 0.05, seed=1), *cell("test", 8, 0.2, 0.05, seed=2)]
    header, *lines = selection_summary(rows)
    assert header == ["run", *SELECTION]
    assert [(line[0], *line[4:6]) for line in lines] == [
        ("seed 0", "0.500", "0.400 [0.250, 0.750]"),
        ("seed 1", "0.600", "0.300 [0.250, 0.750]"),
    ]


def test_of_texts_that_changed_under_their_name_the_last_measured_count():
    old = [*cell("development", 9, 0.9, 0.05, data_hash="old"), *cell("test", 9, 0.95, 0.05, data_hash="old too")]
    new = [*cell("development", 8, 0.3, 0.05), *cell("test", 8, 0.2, 0.05)]
    assert selection_summary(old + new) == selection_summary(new)
    assert selection_summary(new + old)[1][1:4] == ["9", "1", "0.900"]


def test_choice_of_one_vector_is_not_held_against_the_test_of_another():
    rows = [*cell("development", 8, 0.5, 0.05), *cell("test", 8, 0.9, 0.05, vector_hash="d" * 64)]
    assert selection_summary(rows)[1][4:] == ["-", "-", "0.900 (layer 8, ×1)"]


def test_choice_among_doses_names_the_dose():
    rows = [*cell("development", 8, 0.5, 0.05), *cell("development", 8, 0.7, 0.05, multiplier=2.0)]
    rows += [*cell("test", 8, 0.4, 0.05), *cell("test", 8, 0.3, 0.05, multiplier=2.0)]
    assert selection_summary(rows)[1] == [
        *("mean_difference", "8", "2", "0.700", "0.300 [0.250, 0.750]", "+0.400", "0.400 (layer 8, ×1)")
    ]


def test_choice_among_more_rollouts_is_another():
    many = small_row().measurement | {"rollouts": 2000}
    rows = [*cell("development", 8, 0.5, 0.05), *cell("test", 8, 0.4, 0.05, measurement=many)]
    assert selection_summary(rows)[1][4:] == ["-", "-", "-"]
