"""The paper's studies on small models, from one command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steering.cli.main import app
from steering.errors import DataError
from steering.journal import FILE_NAME, Journal, load_rows
from steering.profile_files import load_profile
from steering.profiles import MethodPlan, Profile
from steering.sweeps.reproduction import figure_cells
from tests.small_rows import small_row
from tests.small_saes import write_sae


def test_studies_of_the_paper_s_profile_hold_its_figures():
    profile = load_profile("paper")
    found = figure_cells(profile, range(12), range(12))
    assert [study.shows for study in found] == [
        "Fig. 5, 11, 12, Table I", "Fig. 6", "Fig. 8, 9, Tables II, III", "optimisation and its Pareto front",
    ]  # fmt: skip
    success, losses, features, search = found
    assert {(cell.method, cell.layer, cell.multiplier) for cell in success.cells} == {
        ("mean_difference", layer, 3.0) for layer in range(12)
    }
    assert {cell.multiplier for cell in losses.cells} == {-3.0, 1.5, 3.0}
    assert {cell.layer for cell in features.cells if cell.method == "hand_crafted"} == {8}
    assert {plan.metrics for plan in losses.plans} == {("loss_negative", "loss_neutral", "loss_positive")}
    assert {cell.layer for cell in search.cells} == {5}
    drawn = [plan.parameters for plan in search.plans if plan.method == "optimized"]
    assert len({json.dumps(parameters) for parameters in drawn}) == 6
    assert all(0.1 <= parameters["positive_added"] <= 10 <= 10 * parameters["neutral_added"] for parameters in drawn)
    assert {parameters["dose"] for parameters in drawn} == {3.0}
    assert (drawn[0]["positive_added"], drawn[0]["neutral_added"]) == (1.0, 10.0)


def test_controls_stand_at_the_layers_with_saes_and_where_there_are_none_at_all():
    plans = (MethodPlan("random_direction", 2.0), MethodPlan("mean_difference", 2.0, control="random_direction"))
    profile = Profile("own", "", "m", "c", "n", plans)
    [controlled, others, *_] = figure_cells(profile, range(4), (1, 3))
    assert [{cell.layer for cell in study.cells} for study in (controlled, others)] == [{1, 3}, {0, 2}]
    assert [{plan.control for plan in study.plans} for study in (controlled, others)] == [
        {"", "random_direction"},
        {""},
    ]
    [controlled, losses, *_] = figure_cells(profile, range(4), ())
    assert {cell.layer for cell in controlled.cells} == {0, 1, 2, 3}
    assert losses.shows == "Fig. 6"


def test_vectors_as_long_as_a_sum_of_features_are_measured_where_there_is_an_sae():
    plans = (MethodPlan("feature_delta", 1.0), MethodPlan("mean_difference", 1.0, norm_of="feature_delta"))
    profile = Profile("own", "", "m", "c", "n", plans, saes="some")
    found = figure_cells(profile, range(4), (1, 3), optimized=0)
    assert [study.shows for study in found] == ["Fig. 5, 11, 12, Table I", "Fig. 6", "Fig. 8, 9, Tables II, III"]
    assert {cell.layer for study in found for cell in study.cells} == {1, 3}


def test_search_is_where_the_plan_of_the_mean_difference_is():
    profile = Profile("own", "", "m", "c", "n", (MethodPlan("mean_difference", 2.0, layers=(5,)),))
    *_, search = figure_cells(profile, range(12), ())
    assert {cell.layer for cell in search.cells} == {5}
    with pytest.raises(DataError, match=r"mean_difference is for none of these layers: \[0, 1\]"):
        figure_cells(profile, [0, 1], ())


def test_search_is_at_a_claimed_layer_with_an_sae_where_there_is_one():
    plans = (MethodPlan("mean_difference", 2.0, claimed_layers=(2, 3, 4, 6)),)
    profile = Profile("own", "", "m", "c", "n", plans)
    for layers, sae_layers, expected in (
        (range(8), (0, 3, 6), 3), (range(8), (1,), 3), ((0, 1), (), 0), ((5,), (5,), 5),
    ):  # fmt: skip
        [*_, search] = figure_cells(profile, layers, sae_layers, optimized=1)
        assert {cell.layer for cell in search.cells} == {expected}


def test_profile_without_mean_difference_has_nothing_to_reproduce():
    profile = Profile("own", "", "m", "c", "n", (MethodPlan("random_direction", 1.0),))
    with pytest.raises(DataError, match="no plan of mean_difference"):
        figure_cells(profile, [0], [])


def test_studies_without_saes_leave_their_figures_out():
    plans = (MethodPlan("mean_difference", 2.0), MethodPlan("feature_delta", 1.0))
    found = figure_cells(Profile("own", "", "m", "c", "n", plans), [0, 1], [], optimized=0)
    assert [study.shows for study in found] == ["Fig. 5, 11, 12, Table I", "Fig. 6"]


@pytest.fixture
def options(tmp_path: Path, model_directory: Path, concept_directory: Path, neutral_file: Path) -> list[str]:
    """A profile with SAEs of both blocks, and where everything goes."""
    for layer in (0, 1):
        directory = write_sae(tmp_path / "saes" / f"{layer}", hook_name=f"blocks.{layer}.hook_resid_post", seed=layer)
        records = [{"feature": k, "description": "a king" if k in (5, 9) else f"word {k}"} for k in range(64)]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (directory / "descriptions.jsonl").write_text(text, encoding="utf-8")
    with neutral_file.open("a", encoding="utf-8") as file:  # to train optimised vectors on
        file.writelines(json.dumps({"text": f"A lake lies {n} miles from the road."}) + "\n" for n in range(3))
    path = tmp_path / "small.toml"
    path.write_text(
        f'description = "A test."\nmodel = "{model_directory}"\nconcept = "{concept_directory}"\n'
        f'neutral = "{neutral_file}"\nsaes = "{tmp_path / "saes"}"\nrollouts = 8\nnew_tokens = 6\nalpha = 0.02\n'
        "neutral_prompt_tokens = 4\n"
        '[methods.mean_difference]\nmultiplier = 2\ncontrol = "random_direction"\n'
        "[methods.random_direction]\nmultiplier = 2\n"
        "[methods.feature_delta]\nmultiplier = 1\n[methods.hand_crafted]\nmultiplier = 1\n",
        encoding="utf-8",
    )
    return [
        "reproduce",
        "--profile",
        str(path),
        "--output",
        str(tmp_path / "out"),
        "--documents",
        "4",
        "--optimized",
        "2",
    ]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("[methods.feature_delta]\nmultiplier = 1\nparameters = { topp = 4 }\n", "unknown parameter of method feature"),
        ('[methods.mean]\nmethod = "mean_difference"\nmultiplier = 1\nmetrics = ["words"]\n', "unknown metric 'words'"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_told_before_the_model_is_loaded(
    options, tmp_path, plan, message, monkeypatch
):
    monkeypatch.setattr("steering.cli.reproduce.load_model", pytest.fail)
    path = tmp_path / "small.toml"
    head, _, _ = path.read_text(encoding="utf-8").partition("[methods.feature_delta]")
    path.write_text(head + plan, encoding="utf-8")
    result = CliRunner().invoke(app, options)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_one_command_leaves_results_figures_tables_and_report(options, tmp_path):
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert "Pareto improvement" in result.output
    assert re.findall(r"optimising (\S+) …", result.output) == ["optimized_1-layer0", "optimized_2-layer0"]
    out = tmp_path / "out"
    report = (out / "report.html").read_text(encoding="utf-8")
    assert report.startswith("<!doctype html>")
    assert "a frame marks those above the unsteered run with p &lt; 0.02 (" in report
    tables = (out / "tables.md").read_text(encoding="utf-8")
    assert "### Cells" in tables
    assert re.search(r"^\| the old \| \S+ \| \S+ \|$", tables, re.MULTILINE)
    names = {path.name for path in (out / "figures").iterdir()}
    for ending in ("png", "svg", "csv"):
        assert sum(name.endswith(ending) for name in names) == len(names) / 3
        assert any("similar" in name for name in names)
    rows = load_rows(out)
    assert {row.multiplier for row in rows if row.metric == "loss_neutral" and row.method == "mean_difference"} == {
        -2.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0,
    }  # fmt: skip
    assert {row.layer for row in rows if row.metric == "sae_variance_explained"} == {0, 1}
    assert {row.method for row in rows if row.parameters.get("construction") == "optimized"} == {
        "optimized_1", "optimized_2",
    }  # fmt: skip
    assert {row.method for row in rows if row.metric == "rollout_probability" and row.multiplier == 0.5} == {
        "feature_delta", "hand_crafted", "mean_difference",
    }  # fmt: skip
    tested = [row for row in rows if row.method == "mean_difference" and row.multiplier == 2.0 and row.p_value]
    assert len({row.p_control is None for row in tested}) == 1


def test_side_seed_and_positions_are_those_of_the_options(options, tmp_path):
    given = ["--toward", "negative", "--seed", "7", "--steered-positions", "all", "--layers", "0", "--optimized", "0"]
    result = CliRunner().invoke(app, [*options, *given])
    assert result.exit_code == 0, result.output
    rows = load_rows(tmp_path / "out")
    found = {(row.toward, row.seed, row.measurement.get("steered_positions", "all")) for row in rows}
    assert found == {("negative", 7, "all")}
    assert any("steered_positions" in row.measurement for row in rows)


@pytest.mark.parametrize(
    ("option", "value"), [("--toward", "up"), ("--seed", "-1"), ("--descriptions", "nowhere.jsonl")]
)
def test_option_that_cannot_be_taken_is_told_before_anything_is_written(options, tmp_path, option, value):
    result = CliRunner().invoke(app, [*options, option, value])
    assert result.exit_code != 0
    assert value in f"{result.exception} {result.stderr}"
    assert not (tmp_path / "out").exists()


def test_words_before_and_after_are_those_of_the_concept_though_the_directory_holds_another(options, tmp_path):
    others = ("X",) * 2
    foreign = [
        small_row(metric="one_word_success", method=method, layer=layer, multiplier=multiplier, texts=others)
        for method, layer, multiplier in [("unsteered", None, 0.0), *(("mean_difference", n, 2.0) for n in (0, 1))]
    ]
    Journal(tmp_path / "out").append(foreign)
    assert CliRunner().invoke(app, options).exit_code == 0
    tables = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    line = re.search(r"^\| the old \|.*$", tables, re.MULTILINE)
    assert line is not None
    assert "X" not in line[0]


def test_words_before_and_after_are_those_of_the_dtype_though_the_directory_holds_another(options, tmp_path):
    assert CliRunner().invoke(app, [*options, "--dtype", "float32"]).exit_code == 0
    tables = tmp_path / "out" / "tables.md"
    [before] = re.findall(r"^\| the old \|.*$", tables.read_text(encoding="utf-8"), re.MULTILINE)
    others = [
        replace(row, dtype="bfloat16", texts=("X",) * len(row.texts))
        for row in load_rows(tmp_path / "out")
        if row.metric == "one_word_success"
    ]
    for dtype in ("bfloat16", "float64"):  # before and after it in the order of names
        Journal(tmp_path / "out").append([replace(row, dtype=dtype) for row in others])
    assert CliRunner().invoke(app, [*options, "--dtype", "float32"]).exit_code == 0
    assert re.findall(r"^\| the old \|.*$", tables.read_text(encoding="utf-8"), re.MULTILINE) == [before]


def test_plans_that_refer_to_others_are_measured_where_these_are_not(options, tmp_path):
    path = tmp_path / "small.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[methods.feature_delta]", '[methods.feature_delta]\nnorm_of = "mean_difference"'))
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    found = {row.method: row for row in load_rows(tmp_path / "out") if row.layer == 1 and row.multiplier}
    assert found["feature_delta"].status == "ok"


def test_dose_is_that_of_the_option_and_a_budget_is_none(options, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text("neutral_budget = 0.1\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    refused = CliRunner().invoke(app, options)
    assert refused.exit_code != 0
    assert "give --multiplier" in str(refused.exception)
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(app, [*options, "--multiplier", "4", "--layers", "1"])
    assert result.exit_code == 0, result.output
    doses = {row.multiplier for row in load_rows(tmp_path / "out") if row.method == "mean_difference"}
    assert {-4.0, 1.0, 2.0, 4.0, 6.0} <= doses
    assert not any("neutral_budget" in row.parameters for row in load_rows(tmp_path / "out"))


def test_second_time_nothing_is_measured_and_the_files_are_the_same(options, tmp_path):
    assert CliRunner().invoke(app, options).exit_code == 0
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert CliRunner().invoke(app, options).exit_code == 0
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    journal = tmp_path / "out" / FILE_NAME
    assert after[journal].startswith(files[journal])
    again = [json.loads(line) for line in after[journal][len(files[journal]) :].decode().split("\n")[:-1]]
    assert {row["status"] for row in again} <= {"failed"}
    assert {path.name for path in files if files[path] != after[path]} <= {FILE_NAME}
    rows = [json.loads(line) for line in files[journal].decode().split("\n")[:-1]]
    assert sum(row["method"] == "unsteered" for row in rows) == 9


def test_cells_that_fail_are_told_and_have_their_reason_in_the_tables(options, tmp_path):
    for path in (tmp_path / "saes").glob("*/descriptions.jsonl"):
        path.write_text(path.read_text(encoding="utf-8").replace("a king", "a word"), encoding="utf-8")
    result = CliRunner().invoke(app, [*options, "--optimized", "0", "--layers", "1"])
    assert result.exit_code == 0, result.output
    assert "could not be measured, in part or at all: see 'Not measured' in tables.md" in result.stderr
    tables = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    assert "| hand_crafted | 1 |" in tables.partition("### Not measured")[2]
