"""How often the gate errs and what it finds, by simulated runs of forty cells.

The runs go through what decides in the gate: its test of each cell, Holm's adjustment and the level of each metric. The
intervals of its report, which decide nothing, would take minutes; one test holds the two against each other.
"""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from steering import stats
from steering.power import power_of_drop
from steering.verdicts.baselines import GATED
from steering.verdicts.comparison import p_of_worse
from steering.verdicts.gate import compare
from tests.gate_rows import METRICS, baseline_of, cell

CELLS, NEW, BANKED, TEXTS = 40, 200, 2000, 64
ROLLOUTS, *LOSSES = GATED
NOISE = 0.02  # nats per token: what rounding on another machine does to the loss change of one text


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels collects garbage at each adjustment: 0.2 s


def ones(successes: int, count: int) -> np.ndarray:
    return (np.arange(count) < successes).astype(float)


def rollout_p_values(old: np.ndarray, new: np.ndarray, banked: int) -> np.ndarray:
    """P values `[run, cell]` of numbers of successes `[run, cell]`; each pair of numbers is tested once."""
    pairs, places = np.unique(np.stack([old.ravel(), new.ravel()], axis=1), axis=0, return_inverse=True)
    tested = [p_of_worse(ROLLOUTS, ones(before, banked), ones(after, NEW), 0.0) for before, after in pairs]
    return np.array(tested)[places].reshape(old.shape)


def regressions(p_values: np.ndarray, level: float) -> np.ndarray:
    """Whether a cell regresses, `[run, cell]`."""
    return np.array([stats.holm(run) <= level for run in p_values])


def standard_error(share: float, runs: int) -> float:
    return math.sqrt(share * (1 - share) / runs)


@pytest.mark.parametrize("shares", [(0.03, 0.5, 0.7, 0.95), (0.95,)])
def test_unchanged_code_raises_an_alarm_in_at_most_one_run_of_twenty(shares):
    """1,000 runs of 40 cells: 200 rollouts against 2,000 independent ones, and losses that differ by rounding."""
    runs, generator = 1000, np.random.default_rng(31)
    each = np.resize(shares, CELLS)
    old, new = (generator.binomial(count, each, (runs, CELLS)) for count in (BANKED, NEW))
    alarms = regressions(rollout_p_values(old, new, BANKED), ROLLOUTS.level).any(axis=1)
    for metric in LOSSES:
        changes = generator.normal(0.0, NOISE, (runs, CELLS, TEXTS))
        p_values = ttest_1samp(changes, metric.margin, axis=2, alternative="greater").pvalue
        for run in range(3):
            loss = generator.normal(0.1, 0.05, TEXTS)
            sides = (loss + changes[run, 0], loss) if metric.higher_is_better else (loss, loss + changes[run, 0])
            assert p_of_worse(metric, *sides, metric.margin) == pytest.approx(p_values[run, 0], rel=1e-6)
        alarms |= regressions(p_values, metric.level).any(axis=1)
    # Three standard errors of 1,000 runs are 0.021; Fisher's test, being discrete, stays below its level.
    assert alarms.mean() <= 0.05 + 3 * standard_error(0.05, runs)
    assert alarms.mean() <= 0.05


def test_alarms_come_as_often_as_their_level_says_where_losses_change_by_just_the_margin():
    runs, generator = 400, np.random.default_rng(32)
    for metric in LOSSES:
        changes = generator.normal(metric.margin, NOISE, (runs, CELLS, TEXTS))
        p_values = ttest_1samp(changes, metric.margin, axis=2, alternative="greater").pvalue
        alarms = regressions(p_values, 0.05).any(axis=1)
        assert abs(alarms.mean() - 0.05) <= 3 * standard_error(0.05, runs)


def test_fixed_tolerance_would_raise_an_alarm_in_nearly_every_run():
    """What the gate is not: "5 points lower" with 200 against 200 rollouts."""
    generator = np.random.default_rng(33)
    old, new = (generator.binomial(200, 0.5, (1000, CELLS)) for _ in range(2))
    assert ((new - old) / 200 <= -0.05).any(axis=1).mean() > 0.95


@pytest.mark.parametrize(
    ("share", "drop", "banked", "least", "most"),
    [(0.5, 0.15, 2000, 0.8, 0.86), (0.5, 0.15, 200, 0.38, 0.5), (0.3, 0.15, 2000, 0.93, 0.97)],
)
def test_drop_in_one_of_forty_cells_is_found_as_often_as_documented(share, drop, banked, least, most):
    runs, generator = 400, np.random.default_rng(34)
    shares = np.full(CELLS, share) - drop * (np.arange(CELLS) == 7)
    old, new = generator.binomial(banked, share, (runs, CELLS)), generator.binomial(NEW, shares, (runs, CELLS))
    found = regressions(rollout_p_values(old, new, banked), ROLLOUTS.level)[:, 7].mean()
    power = power_of_drop(share, drop, NEW, banked, alpha=ROLLOUTS.level, cells=CELLS)
    assert least <= power <= most
    assert abs(found - power) <= 3 * standard_error(power, runs)


def test_rollouts_with_the_random_numbers_of_the_banked_ones_raise_fewer_alarms():
    """On one machine, unchanged code draws the first banked rollouts again."""
    runs, generator = 200, np.random.default_rng(35)
    new = generator.binomial(NEW, 0.5, (runs, CELLS))
    old = new + generator.binomial(BANKED - NEW, 0.5, (runs, CELLS))
    alarms = regressions(rollout_p_values(old, new, BANKED), ROLLOUTS.level).any(axis=1)
    independent = new[::-1] + generator.binomial(BANKED - NEW, 0.5, (runs, CELLS))
    assert alarms.mean() <= regressions(rollout_p_values(independent, new, BANKED), ROLLOUTS.level).any(axis=1).mean()
    assert alarms.mean() <= 0.04


def test_whole_gate_decides_as_the_simulated_layer_does():
    generator = np.random.default_rng(36)
    layers = range(6)
    shares = np.array([0.5, 0.5, 0.2, 0.9, 0.5, 0.3])
    drops = np.array([0.0, 0.3, 0.0, 0.0, 0.1, 0.0])
    noise = {metric.name: generator.normal(0.0, NOISE, (2, len(layers), TEXTS)) for metric in LOSSES}
    noise["loss_change_neutral"][1, 4] += 0.03

    def items(side: int, layer: int, count: int, share: float) -> dict[str, list[float]]:
        drawn = (generator.random(count) < share).astype(float).tolist()
        return {"rollout_probability": drawn} | {name: list(values[side, layer]) for name, values in noise.items()}

    before = [items(0, layer, BANKED, shares[layer]) for layer in layers]
    after = [items(1, layer, NEW, shares[layer] - drops[layer]) for layer in layers]
    baseline = baseline_of(*(cell(layer, before[layer]) for layer in layers))
    report = compare(baseline, [row for layer in layers for row in cell(layer, after[layer])])
    expected = np.zeros(len(layers), dtype=bool)
    for number, metric in enumerate(GATED):
        p_values = [
            p_of_worse(metric, np.array(before[layer][metric.name]), np.array(after[layer][metric.name]), metric.margin)
            for layer in layers
        ]
        comparisons = [verdict.comparisons[number] for verdict in report.verdicts]
        assert [entry.p_value for entry in comparisons] == pytest.approx(p_values)
        assert [entry.metric for entry in comparisons] == [METRICS[number]] * len(layers)
        expected |= regressions(np.array([p_values]), metric.level)[0]
    assert [verdict.state == "regressed" for verdict in report.verdicts] == expected.tolist()
    assert expected.tolist() == [False, True, False, False, True, False]
