"""The committed baseline of the embedded profile, and breaks that a gate is for: marked `real`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from steering.journal import Journal, load_rows
from steering.keywords import Keywords, keyword_pattern
from steering.metrics import rollouts
from steering.models.language_model import LanguageModel
from steering.profile_files import load_profile
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.construction import Constructor
from steering.sweeps.earlier import Earlier
from steering.sweeps.sweep import Sweep
from steering.tables.gate import remarks
from steering.vectors import Intervention
from steering.verdicts.baselines import read_baseline
from steering.verdicts.gate import GateReport, compare
from tests.documents import ROOT

pytestmark = pytest.mark.real

BASELINES = ROOT / "bench" / "baselines"
CELL = Cell("mean_difference", 20, 12.0)
KEY = ("mean_difference", 20)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.load("embedded")


@pytest.fixture(scope="module")
def setting() -> Setting:
    profile = load_profile("embedded")
    alone = dataclasses.replace(profile.plan(CELL.method), control="")
    return Setting.load(dataclasses.replace(profile, methods=(alone,)))


@pytest.fixture(scope="module")
def unsteered(model, setting, tmp_path_factory) -> Path:
    """A journal that holds the unsteered run: no break changes it."""
    directory = tmp_path_factory.mktemp("unsteered")
    _ = Sweep(setting, model, Journal(directory), [CELL], run="unsteered").unsteered
    return directory


@pytest.fixture
def gate(model, setting, unsteered, tmp_path) -> Any:
    baseline = read_baseline(BASELINES / f"embedded-{str(model.dtype).removeprefix('torch.')}.json")

    def verdict(setting: Setting = setting) -> GateReport:
        """Measure the cell as the code is now, and hold it against the baseline."""
        sweep = Sweep(setting, model, Journal(tmp_path), [CELL], run="now", earlier=Earlier(load_rows(unsteered)))
        sweep.measure(CELL)
        return compare(baseline, load_rows(tmp_path), required={KEY})

    return verdict


def test_unchanged_code_passes(gate):
    report = gate()
    assert report.exit_code == 0, remarks(report)
    assert report.counts == {"ok": 1}


def sign_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    flipped = property(lambda self: -self.vector.direction * self.multiplier)
    monkeypatch.setattr(Intervention, "addition", flipped)


def moved_by_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    construct = Constructor.intervention

    def moved(constructor: Constructor, cell: Cell) -> Intervention:
        planned = construct(constructor, cell)
        return Intervention(dataclasses.replace(planned.vector, layer=cell.layer + 1), planned.multiplier)

    monkeypatch.setattr(Constructor, "intervention", moved)


def generated_positions_steered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    construct = Constructor.intervention

    def everywhere(constructor: Constructor, cell: Cell) -> Intervention:
        return dataclasses.replace(construct(constructor, cell), positions="all")

    monkeypatch.setattr(Constructor, "intervention", everywhere)


def keywords_cut_by_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "keyword_pattern", lambda words: keyword_pattern(words[:3]))


@pytest.mark.parametrize(
    "break_it", [sign_flipped, moved_by_one_layer, generated_positions_steered_too, keywords_cut_by_the_code]
)
def test_break_fails_the_gate_and_names_the_cell(gate, monkeypatch, break_it):
    break_it(monkeypatch)
    report = gate()
    assert report.exit_code == 1, remarks(report)
    assert "mean_difference-layer20: regressed: " in remarks(report)[0]
    print(remarks(report)[0])


def test_keywords_cut_in_the_data_are_not_comparable(gate, setting):
    keywords = setting.concept.keywords
    cut = dataclasses.replace(setting.concept, keywords=Keywords(keywords.positive[:3], keywords.negative))
    report = gate(dataclasses.replace(setting, concept=cut))
    assert report.exit_code == 6
    assert "mean_difference-layer20: not comparable: " in remarks(report)[0]
    assert "data_hash" in remarks(report)[0]
