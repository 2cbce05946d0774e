"""`steering compare`, `steering baseline` and `steering power`, as a user calls them."""

from __future__ import annotations

import gc
import json

import pytest

from steering.journal import Journal
from steering.power import power_of_drop
from steering.verdicts.baselines import read_baseline
from tests.documents import ROOT, code_blocks
from tests.gate_rows import METRICS, cell, failed, items_of
from tests.small_rows import unsteered_row


@pytest.fixture
def call(monkeypatch, call):
    """The shared fixture, quicker: statsmodels collects garbage at each adjustment, which takes 0.2 s."""
    monkeypatch.setattr(gc, "collect", lambda: 0)
    return call


@pytest.fixture
def results(tmp_path):
    """Write rows to a results directory of their own."""

    def write(name, *cells):
        Journal(tmp_path / name).append([unsteered_row(), *(row for rows in cells for row in rows)])
        return tmp_path / name

    return write


@pytest.fixture
def baseline(call, results, tmp_path):
    """A baseline of two cells with 2,000 rollouts each."""
    banked = results("banked", cell(8, items_of(400, 2000)), cell(20, items_of(1000, 2000)))
    path = tmp_path / "baseline.json"
    assert call("baseline", "promote", banked, "--output", path) == (0, f"{path}: 2 cells\n", "")
    return path


def unchanged(layer: int) -> list:
    return cell(layer, items_of(40 if layer == 8 else 100))


def test_promoted_results_compare_with_themselves_and_with_a_smaller_run(call, results, baseline):
    for run in (results("banked"), results("new", unchanged(8), unchanged(20), cell(9))):
        status, out, err = call("compare", baseline, run)
        assert (status, err) == (0, "")
        assert out.splitlines()[1].split()[:3] == ["method", "layer", "verdict"]
        assert "2 ok" in out.splitlines()[-1]
    assert "0.200 → 0.200" in out
    assert out.splitlines()[-1] == "3 cells: 1 new, 2 ok"


def test_regression_exits_with_1_and_says_what_is_worse(call, results, baseline):
    run = results("new", unchanged(8), cell(20, items_of(60, loss_change_neutral=0.1)))
    status, out, _ = call("compare", baseline, run)
    assert status == 1
    assert "0.500 → 0.300 worse" in out
    assert "+0.050 → +0.150 worse" in out
    assert "mean_difference-layer20: regressed: rollout_probability 0.5000 (n = 2000) → 0.3000 (n = 200)" in out
    assert out.endswith("2 cells: 1 ok, 1 regressed\n")


@pytest.mark.parametrize(
    ("rows", "status", "told"),
    [
        ([unchanged(8)], 1, "mean_difference-layer20: missing: it is in the baseline and was not measured"),
        ([unchanged(8), failed(unchanged(20))], 1, "layer20: missing: rollout_probability failed: NaN"),
        ([unchanged(8), cell(20, model_hash="f")], 6, "layer20: not comparable: model_hash is 'f' and was"),
        ([cell(8, items_of(0)), cell(20, model_hash="f")], 1, "layer20: not comparable"),
        ([cell(8, dtype="float16"), cell(20, dtype="float16")], 6, "layer8, mean_difference-layer20: not comparable"),
        ([cell(8, items_of(100)), unchanged(20)], 0, "layer8: improved"),
    ],
)
def test_exit_status_says_what_was_found(call, results, baseline, rows, status, told):
    found, out, err = call("compare", baseline, results("new", *rows))
    assert (found, err) == (status, "")
    assert told in out


def test_cells_are_chosen_by_method_and_layer(call, results, baseline):
    run = results("new", unchanged(8), cell(20, items_of(0)), cell(8, method="another"))
    status, out, _ = call("compare", baseline, run, "--methods", "mean_difference", "--layers", "8")
    assert (status, out.splitlines()[-1]) == (0, "1 cell: 1 ok")
    status, _, err = call("compare", baseline, run, "--layers", "9")
    assert (status, err) == (2, f"error: unknown layer in {baseline} '9'. Known: 8, 20.\n")
    status, _, err = call("compare", baseline, run, "--methods", "mean")
    assert (status, "unknown method" in err) == (2, True)


def test_one_run_of_several_is_held_against_the_baseline(call, results, baseline):
    run = results("two", cell(8, items_of(0), run="run-1", vector_hash="d"), cell(8, items_of(40), run="run-2"))
    assert call("compare", baseline, run, "--layers", "8", "--run", "last")[0] == 0
    assert call("compare", baseline, run, "--layers", "8", "--run", "run-1")[0] == 1
    assert "unknown run 'run-3'" in call("compare", baseline, run, "--run", "run-3")[2]


def test_swapped_arguments_are_told(call, results, baseline):
    run = results("new", unchanged(8))
    status, _, err = call("compare", run, baseline)
    assert (status, f"steering compare {baseline} {run}" in err) == (2, True)


def test_baseline_in_the_place_of_results_is_told(call, baseline, tmp_path):
    other = tmp_path / "other.json"
    other.write_bytes(baseline.read_bytes())
    status, _, err = call("compare", baseline, other)
    assert (status, err.startswith(f"error: {other}: it looks like a baseline; give a results directory")) == (2, True)


def test_results_that_are_not_there_are_not_taken_for_swapped_arguments(call, results, tmp_path):
    status, _, err = call("compare", results("before", cell(8)), tmp_path / "aftr")
    assert (status, "no such file" in err) == (2, True)


def test_results_that_are_no_baseline_are_named(call, results):
    mixed, run = results("mixed", cell(8), cell(20, seed=1)), results("new", cell(8))
    status, _, err = call("compare", mixed, run)
    assert (status, err.startswith(f"error: {mixed}: the results cannot be one baseline: seed is")) == (2, True)


def test_earlier_results_serve_as_a_baseline_without_a_file(call, results, tmp_path):
    before, after = results("before", cell(8), cell(20)), results("after", cell(8), cell(20, items_of(50)))
    listed = sorted(tmp_path.rglob("*"))
    for reference in (before, before / "results.jsonl"):
        status, out, _ = call("compare", reference, after)
        assert (status, out.splitlines()[-1]) == (1, "2 cells: 1 ok, 1 regressed")
    assert call("compare", before, after, "--layers", "8")[0] == 0
    assert sorted(tmp_path.rglob("*")) == listed


def test_json_holds_the_whole_report(call, results, baseline):
    status, out, _ = call("compare", baseline, results("new", unchanged(8), cell(20, items_of(60))), "--format", "json")
    report = json.loads(out)
    assert (status, report["exit_code"], report["counts"]) == (1, 1, {"ok": 1, "regressed": 1})
    assert [entry["metric"] for entry in report["verdicts"][1]["comparisons"]] == list(METRICS)
    assert report["verdicts"][1]["comparisons"][0]["new"] == 0.3


def test_markdown_is_a_table(call, results, baseline):
    _, out, _ = call("compare", baseline, results("new", unchanged(8), unchanged(20)), "--format", "markdown")
    assert out.startswith("| method | layer | verdict | P(success) |")
    assert out.splitlines()[1].startswith("| --- | ---: |")


def test_baseline_of_another_schema_is_not_comparable(call, results, baseline):
    content = json.loads(baseline.read_text(encoding="utf-8")) | {"schema_version": 7}
    baseline.write_text(json.dumps(content), encoding="utf-8")
    status, out, err = call("compare", baseline, results("new", cell(8)))
    assert (status, out) == (6, "")
    assert err.startswith(f"not comparable: {baseline}: a baseline of schema version 7")


@pytest.mark.parametrize("name", ["none.json", "damaged.json"])
def test_baseline_that_cannot_be_read_exits_with_2(call, results, tmp_path, name):
    (tmp_path / "damaged.json").write_text("{")
    status, out, err = call("compare", tmp_path / name, results("new", cell(8)))
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / name}: ")


def test_results_that_are_not_there_exit_with_2(call, baseline, tmp_path):
    assert call("compare", baseline, tmp_path / "none")[0] == 2


def test_promotion_says_what_it_changes(call, results, baseline):
    again = results("again", cell(8, items_of(500, 2000)), cell(25, items_of(1000, 2000)))
    status, out, _ = call("baseline", "promote", again, "--output", baseline, "--margin", "loss_change_neutral=0.05")
    assert status == 0
    assert out.splitlines() == [
        "margins: loss_change_neutral 0.01 → 0.05",
        "mean_difference-layer8: rollout_probability 0.2000 (n = 2000) → 0.2500 (n = 2000)",
        "mean_difference-layer20: removed",
        "mean_difference-layer25: added",
        f"{baseline}: 2 cells",
    ]
    assert read_baseline(baseline).margins["loss_change_neutral"] == 0.05
    assert call(
        "baseline", "promote", results("again"), "--output", baseline, "--margin", "loss_change_neutral=0.05"
    ) == (
        0,
        f"nothing changed\n{baseline}: 2 cells\n",
        "",
    )


def test_cells_are_promoted_beside_those_that_are_there(call, results, baseline):
    again = results("again", cell(8, items_of(500, 2000)), cell(25, items_of(1000, 2000)))
    status, out, _ = call("baseline", "promote", again, "--output", baseline, "--keep-others")
    assert status == 0
    assert out.splitlines() == [
        "mean_difference-layer8: rollout_probability 0.2000 (n = 2000) → 0.2500 (n = 2000)",
        "mean_difference-layer25: added",
        f"{baseline}: 3 cells",
    ]
    before = baseline.read_bytes()
    other = results("other", cell(9, items_of(1000, 2000), seed=1))
    status, _, err = call("baseline", "promote", other, "--output", baseline, "--keep-others")
    assert (status, "the other cells cannot be kept: seed: 0 → 1" in err) == (2, True)
    status, _, err = call(
        "baseline", "promote", again, "--output", baseline, "--keep-others", "--required-rollouts", "10"
    )
    assert (status, "give no others" in err) == (2, True)
    assert baseline.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--margin", "loss_change_neutral"), "give METRIC=VALUE"),
        (("--margin", "loss_change_neutral=-1"), "a number of at least 0"),
        (("--margin", "loss_change_neutral=nan"), "a number of at least 0"),
        (("--margin", "loss=1"), "unknown gated metric 'loss'"),
        (("--methods", "another"), "unknown method 'another'"),
        (
            ("--methods", "noise"),
            "unknown method 'noise'. Known: mean_difference. Controls are left out of baselines: noise.",
        ),
        (("--layers", "x"), "give block numbers with commas"),
        (("--run", "another"), "unknown run 'another'"),
        (("--required-rollouts", "300"), "300 rollouts cannot be required"),
    ],
)
def test_refused_promotion_writes_nothing(call, results, tmp_path, options, told):
    output, rows = tmp_path / "b.json", [*cell(8), *cell(8, method="noise", is_control=True)]
    status, out, err = call("baseline", "promote", results("new", rows), "--output", output, *options)
    assert (status, out, output.exists()) == (2, "", False)
    assert told in err


def test_failed_cells_are_not_promoted_and_the_old_baseline_stays(call, results, baseline):
    before = baseline.read_bytes()
    status, _, err = call("baseline", "promote", results("new", cell(8), failed(cell(20))), "--output", baseline)
    assert (status, baseline.read_bytes()) == (2, before)
    assert "mean_difference-layer20 failed and cannot be promoted" in err


def test_promotion_replaces_nothing_but_baselines(call, results):
    run = results("new", cell(8))
    journal = run / "results.jsonl"
    before = journal.read_bytes()
    status, _, err = call("baseline", "promote", run, "--output", journal)
    assert (status, journal.read_bytes()) == (2, before)
    assert "Promotion replaces baselines only" in err


def test_one_run_of_several_is_promoted_by_its_name(call, results, tmp_path):
    run = results("two", cell(8, run="first"), cell(20, run="second", seed=1))
    status, _, err = call("baseline", "promote", run, "--output", tmp_path / "b.json")
    assert (status, "Promote one run, by `steering baseline promote --run`" in err) == (2, True)
    assert call("baseline", "promote", run, "--output", tmp_path / "b.json", "--run", "second")[0] == 0
    assert read_baseline(tmp_path / "b.json").seed == 1


def test_show_prints_circumstances_and_cells(call, baseline):
    status, out, _ = call("baseline", "show", baseline)
    assert status == 0
    assert "required_rollouts:  200" in out
    assert "top_p 0.8" in out
    assert any(line.split()[:5] == ["mean_difference", "8", "12", "30", "2000"] for line in out.splitlines())


def test_power_prints_what_can_be_found(call):
    status, out, _ = call(
        "power", "--rollouts", "50", "--baseline-rollouts", "60", "--cells", "3", "--format", "markdown"
    )
    assert status == 0
    assert "one of 3 cells: 50 rollouts against 60" in out
    rows = [
        [entry.strip() for entry in line.strip("|").split("|")]
        for line in out.splitlines()
        if line.startswith("| 0.50")
    ]
    assert len(rows) == 2
    powers = [int(entry.removesuffix(" %")) for entry in rows[0][1:5]]
    assert powers == sorted(powers)
    assert call("power", "--cells", "0")[0] == 2


def test_statistics_document_shows_what_power_prints(call):
    _, out, _ = call("power")
    [shown] = [text for text in code_blocks(ROOT / "docs" / "statistics.md", "text") if "How probably" in text]
    assert [line.rstrip() for line in out.strip().splitlines()] == shown.splitlines()
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    few, many = (power_of_drop(0.5, 0.15, 200, banked, alpha=0.04, cells=40) for banked in (200, 2000))
    assert f"15 points are found with {few * 100:.0f} %" in text
    assert f"found with {many * 100:.0f} % at P(success) = .5" in text


def test_help_says_what_the_exit_status_means(call):
    _, out, _ = call("compare", "--help")
    assert all(text in " ".join(out.split()) for text in ("Exit status: 0", "1 a cell regressed", "6 a cell cannot"))
    _, out, _ = call("baseline", "--help")
    assert all(f" {name} " in out for name in ("promote", "show"))
