"""Improvements on the mean difference, against tests computed by hand and by simulation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats as scipy_stats

from steering.results import Row
from steering.tables.export import to_markdown
from steering.tables.pareto import LEVEL, comparisons, pareto_statement, pareto_summary
from tests.small_rows import small_row, unsteered_row

pytestmark = pytest.mark.usefixtures("without_collection")

ROLLOUTS, DOCUMENTS = 200, 64


def costs(mean: float, seed: int) -> np.ndarray:
    return mean + np.random.default_rng(seed).normal(0, 0.02, DOCUMENTS)


def cell(method: str, share: float, cost: float, *, seed: int = 0, **changes: object) -> list[Row]:
    """Rows of a cell of which the first rollouts succeed."""
    success = (np.arange(ROLLOUTS) < share * ROLLOUTS).astype(float)
    items = {"rollout_probability": success, "loss_change_neutral": costs(cost, seed)}
    return [
        small_row(method=method, metric=metric, items=tuple(found), n=len(found), value=float(found.mean()), **changes)
        for metric, found in items.items()
    ]


def test_cell_that_is_better_in_both_improves_and_the_reverse_is_dominated():
    mean, better, worse = cell("mean_difference", 0.3, 0.05), cell("a", 0.5, 0.02, seed=1), cell("b", 0.1, 0.1, seed=2)
    found = {each.row.method: each for each in comparisons([unsteered_row(), *mean, *better, *worse])}
    assert (found["a"].verdict, found["b"].verdict) == ("improves", "dominated")
    t_test = scipy_stats.ttest_rel(costs(0.05, 0), costs(0.02, 1), alternative="greater").pvalue
    assert found["a"].p_better == pytest.approx(2 * max(0.5**40, t_test))  # 40 rollouts succeed here only, none there
    assert found["a"].success[0] == pytest.approx(0.2)
    assert found["b"].cost[0] == pytest.approx((costs(0.1, 2) - costs(0.05, 0)).mean())


@pytest.mark.parametrize(("share", "cost"), [(0.5, 0.08), (0.1, 0.02), (0.31, 0.02), (0.5, 0.05)])
def test_cell_that_is_not_better_in_both_is_open(share, cost):
    [found] = comparisons([*cell("mean_difference", 0.3, 0.05), *cell("a", share, cost, seed=1)])
    assert found.verdict == "open"


@pytest.mark.parametrize("metric", ["rollout_probability", "loss_change_neutral"])
def test_cell_whose_items_are_no_pairs_is_not_compared(metric):
    mean, other = cell("mean_difference", 0.3, 0.05), cell("a", 0.5, 0.02, seed=1)
    shorter = [dataclasses.replace(row, items=row.items[:-1]) if row.metric == metric else row for row in other]
    assert comparisons([*mean, *shorter]) == []
    assert len(comparisons([*mean, *other])) == 1


def test_selection_of_cells_keeps_its_comparisons_and_their_p_values():
    others = [row for number in range(9) for row in cell(f"other_{number}", 0.3, 0.05, seed=number + 2)]
    rows = [*cell("mean_difference", 0.3, 0.05), *cell("a", 0.5, 0.02, seed=1), *others]
    whole = {line[0]: line for line in pareto_summary(rows)[1:]}
    selected = [row for row in rows if row.method == "a"]
    assert pareto_summary(selected, rows)[1:] == [whole["a"]]
    assert len(whole) == 10
    assert pareto_statement(rows) in to_markdown(selected, rows)


def test_cells_are_compared_within_their_layer_and_their_texts_and_controls_are_not():
    rows = [
        *cell("mean_difference", 0.3, 0.05),
        *cell("a", 0.6, 0.0, layer=2),
        *cell("b", 0.6, 0.0, data_hash="other"),
        *cell("c", 0.6, 0.0, is_control=True),
        *cell("d", 0.6, 0.0, measurement={"split": "development"}),
        *cell("own name", 0.6, 0.0, parameters={"construction": "mean_difference"}, multiplier=2.0),
    ]
    assert comparisons(rows) == []
    assert pareto_statement(rows) == ""
    assert len(pareto_summary(rows)) == 1


def test_line_of_a_cell_is_about_the_dose_that_it_comes_nearest_to_improving_on():
    rows = [
        *cell("mean_difference", 0.1, 0.01, multiplier=3.0),
        *cell("mean_difference", 0.4, 0.06, multiplier=9.0),
        *cell("mean_difference", 0.8, 0.20, multiplier=15.0),
        *cell("a", 0.6, 0.03, multiplier=12.0, seed=1),
    ]
    lines = pareto_summary(rows)
    assert lines[0][:5] == ["method", "layer", "×", "P(success)", "against ×"]
    [line] = lines[1:]
    assert line[:5] == ["a", "1", "12", "0.600", "9"]
    assert line[-1] == "improves"
    statement = pareto_statement(rows)
    assert statement.startswith("1 of 1 cells are Pareto improvements over mean_difference (3 comparisons")
    assert "a ×12 at layer 1 over ×9: P(success) +0.200" in statement


def raw_p(here: list[Row], there: list[Row]) -> float:
    """That one cell succeeds more often than another, and costs less, without any adjustment."""
    (success, cost), (other_success, other_cost) = ([row.items for row in rows] for rows in (here, there))
    gained = round(sum(success) - sum(other_success))  # successes are nested: all pairs that differ do so in one way
    p_success = scipy_stats.binomtest(max(gained, 0), abs(gained), alternative="greater").pvalue if gained else 1.0
    return float(max(p_success, scipy_stats.ttest_rel(other_cost, cost, alternative="greater").pvalue))


def test_nearest_dose_is_found_where_all_adjusted_p_values_are_1():
    doses = {"3": (0.05, 0.005), "6": (0.095, 0.03), "9": (0.2, 0.05)}
    means = {
        dose: cell("mean_difference", *point, multiplier=float(dose), seed=int(dose)) for dose, point in doses.items()
    }
    others = [cell(f"m{n:02}", 0.2 + 0.005 * (n % 4), 0.033, multiplier=12.0, seed=n + 10) for n in range(30)]
    rows = [row for rows in (*means.values(), *others) for row in rows]
    assert {(found.p_better, found.verdict) for found in comparisons(rows)} == {(1.0, "open")}
    shown = [line[4] for line in pareto_summary(rows)[1:]]
    assert shown == [min(means, key=lambda dose: raw_p(other, means[dose])) for other in others]
    assert set(shown) == {"6", "9"}


def test_cell_that_is_dominated_is_shown_against_the_dose_that_dominates_it_most_clearly():
    success, cost = cell("mean_difference", 0.28, 0.02, multiplier=6.0, seed=1)
    rolled = dataclasses.replace(success, items=tuple(np.roll(success.items, 1)))  # fails where a succeeds, once
    rows = [
        *cell("mean_difference", 0.1, 0.03, multiplier=3.0),
        *(rolled, cost),
        *cell("mean_difference", 0.4, 0.01, multiplier=9.0, seed=2),
        *cell("a", 0.2, 0.035, multiplier=12.0, seed=3),
    ]
    found = {each.reference.multiplier: each for each in comparisons(rows)}
    assert {dose: each.verdict for dose, each in found.items()} == {3.0: "open", 6.0: "dominated", 9.0: "dominated"}
    assert found[3.0].raw_better < found[6.0].raw_better < found[9.0].raw_better == 1
    [line] = pareto_summary(rows)[1:]
    assert (line[4], line[-1]) == ("9", "dominated")


def test_choice_of_the_dose_hides_no_verdict():
    rng, seen = np.random.default_rng(4), set()
    for _ in range(8):
        rows = []
        for n, method in enumerate([*["mean_difference"] * 4, *"abcdefgh"]):
            share, cost, seed = rng.uniform(0.1, 0.6), rng.uniform(0.0, 0.05), int(rng.integers(1000))
            rows += cell(method, share, cost, multiplier=float(n + 1), seed=seed)
        verdicts: dict[str, set[str]] = {}
        for each in comparisons(rows):
            verdicts.setdefault(each.row.method, set()).add(each.verdict)
        best = {
            method: next(verdict for verdict in ("improves", "dominated", "open") if verdict in found)
            for method, found in verdicts.items()
        }
        assert {line[0]: line[-1] for line in pareto_summary(rows)[1:]} == best
        seen |= set(best.values())
    assert seen == {"improves", "dominated", "open"}


def test_nothing_found_is_said_with_its_limits():
    statement = pareto_statement([*cell("mean_difference", 0.3, 0.05), *cell("a", 0.3, 0.05)])
    assert statement.startswith("Nothing is shown to be a Pareto improvement")


def test_each_study_has_a_statement_of_its_own():
    one = [*cell("mean_difference", 0.3, 0.05), *cell("a", 0.5, 0.02, seed=1)]
    other = [dataclasses.replace(row, seed=7) for row in [*one[:2], *cell("a", 0.3, 0.05)]]
    statement = pareto_statement([*one, *other])
    assert statement == f"seed 0: {pareto_statement(one)} seed 7: {pareto_statement(other)}"
    assert "1 of 1 cells" in pareto_statement(one)
    assert pareto_statement(one, [*one, *other]) == pareto_statement(one)
    assert pareto_statement([], one) == ""
    assert pareto_statement(other).startswith("Nothing is shown")


def test_shares_that_are_equal_in_every_rollout_have_an_interval_all_the_same():
    [found] = comparisons([*cell("mean_difference", 1.0, 0.05), *cell("a", 1.0, 0.02, seed=1)])
    value, low, high = found.success
    assert value == 0
    assert low == pytest.approx(-high)
    assert 0.01 < high < 0.03


def test_cells_that_are_no_better_are_seldom_called_improvements():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(60):
        rows = []
        for method in ("mean_difference", *"abcd"):
            success, cost = cell(method, 0.3, 0.05)
            chances = (rng.random(ROLLOUTS) < 0.3).astype(float)
            rows.append(dataclasses.replace(success, items=tuple(chances)))
            rows.append(dataclasses.replace(cost, items=tuple(rng.normal(0.05, 0.02, DOCUMENTS))))
        alarms += any(each.verdict != "open" for each in comparisons(rows))
    assert alarms <= scipy_stats.binom.ppf(0.999, 60, LEVEL)
