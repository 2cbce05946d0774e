"""`pytest bench` on a small model, a concept and a neutral file that the project never saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from steering.journal import FILE_NAME, load_rows
from steering.methods import methods
from steering.metrics import metrics
from tests.documents import ROOT

# Loaded here, since pytester forgets the modules that are first imported while it runs.
PLUGINS = (*methods, *metrics)
# One cell at a time, as where memory allows no more. Ctrl-C comes while the third is measured.
INTERRUPTED = """
import signal
import sys
import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C

class Plugin:
    def pytest_sessionstart(self):
        from steering.metrics.rollouts import RolloutProbability
        from steering.sweeps.sweep import Sweep
        observe, seen = RolloutProbability.observe, []

        def interrupted(metric, interventions, progress):
            seen.append(interventions)
            if len(seen) == 4:  # after the unsteered run and two cells
                signal.raise_signal(signal.SIGINT)
            return observe(metric, interventions, progress)

        Sweep._together = 1
        RolloutProbability.observe = interrupted

sys.exit(pytest.main(sys.argv[1:], plugins=[Plugin()]))
"""


def profile_claiming(path: Path, concept: Path, model: Path, neutral: Path, bound: float) -> Path:
    """A profile that claims mean_difference at layer 0, which no random model keeps."""
    path.write_text(
        f'description = "A test."\nmodel = "{model}"\nconcept = "{concept}"\nneutral = "{neutral}"\n'
        f"rollouts = 8\nneutral_bound = {bound}\n[methods.mean_difference]\nmultiplier = 1\nclaimed_layers = [0]\n",
        encoding="utf-8",
    )
    return path


def test_own_concept_model_and_neutral_file_run_to_the_table(bench, arguments, tmp_path):
    result = bench(*arguments, "-k", "layer1")
    result.assert_outcomes(passed=2, deselected=2)
    table = result.stdout.str()
    assert "mean_difference" in table
    assert "No claim was tested: the profile's claims are for its own model." in table
    assert f"Results: {tmp_path}/results/results.jsonl" in table
    rows = load_rows(tmp_path / "results")
    assert {(row.method, row.layer) for row in rows} == {
        ("unsteered", None),
        ("mean_difference", 1),
        ("random_direction", 1),
    }
    assert {row.concept for row in rows} == {"royalty"}
    assert {row.n for row in rows if row.metric == "rollout_probability"} == {8}


def test_file_whose_name_is_not_text_is_measured(bench, arguments, neutral_file, tmp_path):
    name = os.fsdecode(b"caf\xe9.jsonl")  # Latin-1, as an old disk has it
    other = neutral_file.rename(tmp_path / name)
    bench(*arguments, f"--neutral={other}", "-k", "mean_difference-layer1").assert_outcomes(passed=1, deselected=3)
    assert {row.neutral for row in load_rows(tmp_path / "results")} == {"caf?.jsonl"}


def test_test_ids_end_with_the_layer_and_layers_selects_exactly(bench, arguments):
    result = bench(*arguments, "--collect-only", "-q", "--layers", "1")
    ids = [line for line in result.outlines if "::" in line]
    assert [line.split("::")[1] for line in ids] == [
        "test_steering[mean_difference-layer1]",
        "test_steering[random_direction-layer1]",
    ]


def test_plan_that_is_for_some_layers_runs_at_these_alone(bench, arguments, profile_file):
    profile_file.write_text(profile_file.read_text(encoding="utf-8") + "layers = [1, 5]\n", encoding="utf-8")
    result = bench(*arguments, "--collect-only", "-q")
    ids = [line.split("[")[1].rstrip("]") for line in result.outlines if "::" in line]
    assert ids == ["mean_difference-layer0", "mean_difference-layer1", "random_direction-layer1"]


def test_sae_quality_selects_nothing_where_the_profile_has_no_saes(bench, arguments, tmp_path):
    result = bench(*arguments, "-k", "sae_quality")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.assert_outcomes(deselected=4)
    assert "steering =" not in result.stdout.str()
    assert not (tmp_path / "results").exists()


def test_marks_select_exactly(bench, arguments):
    result = bench(*arguments, "--collect-only", "-q", "-m", "layer(index=0) and method(name='random_direction')")
    assert sum("::" in line for line in result.outlines) == 1


def test_broken_claim_fails_with_its_numbers(
    bench, arguments, model_directory, concept_directory, neutral_file, tmp_path
):
    path = profile_claiming(tmp_path / "own.toml", concept_directory, model_directory, neutral_file, 0.1)
    result = bench("--profile", str(path), "--results", str(tmp_path / "out"), "--layers", "0")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "is not significantly above the unsteered run (p = " in text
    assert "broken" in text
    assert "Traceback" not in text


def test_benchmark_json_holds_timings_and_metrics(bench, arguments, tmp_path):
    bench(*arguments, "--layers", "0", "--benchmark-json", str(tmp_path / "new" / "timings.json")).assert_outcomes(
        passed=2
    )
    entries = json.loads((tmp_path / "new" / "timings.json").read_text())["benchmarks"]
    for entry in entries:
        extra = entry["extra_info"]
        assert extra["evaluation_seconds"] > 0
        assert 0 <= extra["construction_seconds"] < extra["evaluation_seconds"]
        assert 0 <= extra["metrics"]["rollout_probability"]["value"] <= 1
        assert entry["stats"]["rounds"] == 1
        assert entry["stats"]["mean"] == pytest.approx(extra["construction_seconds"] + extra["evaluation_seconds"])
        assert entry["group"] == "layer 0"


def test_time_of_what_was_measured_earlier_is_marked(bench, arguments, tmp_path):
    bench(*arguments, "--layers", "0").assert_outcomes(passed=2)
    bench(*arguments, "--resume", "--benchmark-json", str(tmp_path / "timings.json")).assert_outcomes(passed=4)
    entries = json.loads((tmp_path / "timings.json").read_text(encoding="utf-8"))["benchmarks"]
    found = {(entry["group"], entry["extra_info"].get("was_measured_earlier", False)) for entry in entries}
    assert found == {("layer 0", True), ("layer 1", False)}


def test_benchmark_json_that_cannot_be_written_is_told_before_anything_is_measured(bench, arguments, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    result = bench(*arguments, "--benchmark-json", str(tmp_path / "file" / "timings.json"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"{tmp_path / 'file'}: cannot be written" in result.stderr.str()


def test_benchmark_only_runs_the_cells(bench, arguments):
    bench(*arguments, "--layers", "0", "--benchmark-only").assert_outcomes(passed=2)


def test_looking_at_help_or_collecting_writes_nothing(bench, arguments, tmp_path):
    bench(*arguments, "--collect-only")
    bench(*arguments, "--help")
    assert not (tmp_path / "results").exists()


def test_fixtures_can_be_looked_at(bench, arguments, tmp_path):
    result = bench(*arguments, "--fixtures")
    assert result.ret == 0
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert not (tmp_path / "results").exists()


def test_bench_runs_without_the_benchmark_plugin(bench, arguments):
    bench(*arguments, "--layers", "0", "-p", "no:benchmark").assert_outcomes(passed=2)


def test_two_runs_agree_and_another_seed_differs(bench, arguments, tmp_path):
    def items(name: str, *options: str) -> list[tuple[float, ...]]:
        bench(*arguments, "--layers", "0", "--results", str(tmp_path / name), *options).assert_outcomes(passed=2)
        return [(row.items, row.texts) for row in load_rows(tmp_path / name)]

    first = items("a")
    assert first == items("b")
    assert first != items("c", "--seed", "1")


def test_multiplier_direction_and_positions_are_options(bench, arguments, tmp_path):
    options = ("--multiplier", "2.5", "--toward", "negative", "--steered-positions", "all")
    bench(*arguments, "--layers", "0", *options).assert_outcomes(passed=2)
    steered = [row for row in load_rows(tmp_path / "results") if row.layer == 0]
    found = {(row.multiplier, row.toward, row.measurement["steered_positions"]) for row in steered}
    assert found == {(2.5, "negative", "all")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "0,7"], "unknown layer '7'. Known: 0 to 1."),
        (["--layers=-1"], "--layers '-1': blocks are counted from 0"),
        (["--layers", "a"], "--layers 'a': give block numbers with commas, for instance 8,20 or 8-12"),
        (["--profile", "embeded"], "unknown profile 'embeded'. Did you mean 'embedded'?"),
        (["--concept", "gendr"], "unknown concept 'gendr'. Did you mean 'gender'?"),
        (["--neutral", "nothing.jsonl"], "unknown neutral set 'nothing.jsonl'. Known: embedded, openwebtext."),
        (["--rollouts", "0"], "rollouts is 0; it must be at least 1"),
        (["--model", "/nowhere"], "model '/nowhere': no such file or directory"),
        (["--profile", ""], "--profile: the value is empty; give one, or leave the option out"),
        (["--layers", ""], "--layers: the value is empty"),
        (["--gate", ""], "--gate: the value is empty"),
        (["--results", ""], "--results: the value is empty"),
        (["--vector", ""], "--vector: the value is empty"),
        (
            ["--multiplier", "3", "--budget", "5"],
            "--multiplier 3 and --budget 5: give one of them",
        ),
        (["--seed", str(2**63)], "seed is 9223372036854775808; it must be 0 or more, and less than 2^63"),
        (["--saes", "./nowhere"], "unknown SAEs './nowhere'. Known: embedded. Or give a directory with cfg.json"),
    ],
)
def test_mistake_in_an_option_is_one_message_before_anything_runs(bench, arguments, options, message):
    result = bench(*arguments, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_malformed_concept_names_file_and_line(bench, arguments, concept_directory):
    with (concept_directory / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "x", "prompt": "A", "positive": " ", "negative": "b"}\n')
    result = bench(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "test.jsonl:4: 'positive' is ' '; it must be a non-empty string" in result.stderr.str()


def test_unwritable_results_directory_is_one_message(bench, arguments, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = bench(*arguments, "--results", str(tmp_path / "file" / "results"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "results cannot be written to" in result.stderr.str()
    assert "Choose another directory." in result.stderr.str()


def test_results_directory_whose_name_is_too_long_is_one_message(bench, arguments, tmp_path):
    result = bench(*arguments, "--resume", "--results", str(tmp_path / ("a" * 300)))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "results cannot be written to" in result.stderr.str()


def test_full_disk_ends_the_run_with_one_message_and_keeps_what_was_measured(bench, arguments, tmp_path, monkeypatch):
    def fill_up(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.name == FILE_NAME and b'"method": "random_direction"' in path.read_bytes():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fill_up)
    result = bench(*arguments)
    assert result.ret == 2
    text = result.stdout.str()
    assert "results.jsonl: writing failed: No space left on device. Earlier rows are kept" in text
    assert "Traceback" not in text
    rows = load_rows(tmp_path / "results")
    assert {row.method for row in rows} == {"unsteered", "mean_difference"}


def test_interrupt_keeps_finished_cells_and_prints_the_table(arguments, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, "bench", *arguments, "-p", "no:cacheprovider"]
    own = os.environ | {"STEERING_BENCH_CACHE": str(tmp_path / "cache")}
    process = subprocess.run(
        command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    output = process.stdout
    assert process.returncode == 2
    assert "Not finished: 2 of 4 tests were measured" in output
    assert "Traceback" not in output
    assert "P(success)" in output
    assert "mean_difference" in {row.method for row in load_rows(tmp_path / "results")}


def test_method_that_learns_from_documents_of_a_budget_is_refused_only_where_it_is_selected(
    bench, arguments, profile_file, neutral_file
):
    with neutral_file.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": f"A lake lies {n} miles from the road."}) + "\n" for n in range(3))
    with profile_file.open("a", encoding="utf-8") as file:
        file.write("[methods.optimized]\nmultiplier = 1\n[methods.scaled]\nmultiplier = 1\n")
        file.write('method = "random_direction"\nnorm_of = "optimized"\n')
    text = profile_file.read_text(encoding="utf-8")
    profile_file.write_text("neutral_documents = 4\nneutral_prompt_tokens = 4\n" + text, encoding="utf-8")
    budget = (*arguments, "--budget=0.05", "--layers=1")
    for selection in ("optimized", "scaled"):
        refused = bench(*budget, "-k", selection)
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        assert "cannot be measured where doses of a budget are chosen on the same documents" in refused.stderr.str()
    assert "loading model" not in refused.stderr.str()
    result = bench(*budget, "-k", "mean_difference")
    result.assert_outcomes(passed=1, deselected=3)
    assert "3 of 64 neutral documents of the development split are there, and were used." in result.stdout.str()
    assert "neutral documents are there" not in result.stdout.str()
