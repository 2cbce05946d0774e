"""The workflow to copy: its commands exist, and it does what its document says."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from itertools import pairwise

import pytest
import yaml

from steering.verdicts.baselines import read_baseline
from tests.documents import ROOT, unknown_benchmark_options, unknown_steering_options

WORKFLOW = yaml.safe_load((ROOT / "docs" / "github-actions.yml").read_text(encoding="utf-8"))
JOBS = WORKFLOW["jobs"]
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]
SCRIPTS = [step["run"] for _, step in STEPS if "run" in step]
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


def commands(program):
    """The words after a program's name, of each command line that runs it, up to a pipe or a redirection."""
    found = []
    for line in (line for script in SCRIPTS for line in script.splitlines()):
        words = shlex.split(re.split(r"[|>]", _EXPRESSION.sub("1", line))[0])
        if words and words[0].rpartition("/")[2] == program:
            found.append(words[1:])
    return found


def steps_using(action):
    return [(name, step) for name, step in STEPS if step.get("uses", "").split("@")[0] == action]


def test_benchmark_commands_have_options_that_exist(pytestconfig):
    given = [words[words.index("--") + 1 :] for words in commands("tox")]
    assert len(given) == 2
    assert [unknown_benchmark_options(words, pytestconfig) for words in given] == [set(), set()]
    assert {"--gate", "--shard", "--results", "--junitxml"} <= {word for words in given for word in words}


def test_gates_run_in_the_dtype_of_their_baseline_on_every_machine():
    in_ci = [shlex.split(line)[1:] for line in (ROOT / ".ci" / "run").read_text().splitlines() if "--gate" in line]
    gated = [words for words in [*commands("tox"), *in_ci] if "--gate" in words]
    assert len(gated) == 2
    for words in gated:
        options = dict(pairwise(words))
        assert read_baseline(ROOT / options["--gate"]).dtype == options["--dtype"]


def test_shards_run_in_one_dtype_on_every_machine():
    [shard] = [words for words in commands("tox") if "--shard" in words]
    assert dict(pairwise(shard))["--dtype"] == "float32"


def test_steering_commands_exist_with_their_options():
    given = commands("steering")
    assert {words[0] for words in given} == {"compare", "export", "merge"}
    assert [words for words in given if unknown_steering_options(words)] == []


def test_an_option_that_does_not_exist_would_be_found(pytestconfig):
    assert unknown_benchmark_options(["-k", "a", "--gates=b"], pytestconfig) == {"--gates"}
    assert unknown_steering_options(["export", "results", "--form", "csv"]) == {"--form"}
    with pytest.raises(KeyError):
        unknown_steering_options(["exports", "results"])


def test_tox_environments_of_the_workflow_exist_and_pass_what_the_benchmark_reads():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    assert {words[words.index("-e") + 1] for words in commands("tox")} == {"bench"}
    assert "testenv:bench" in config
    assert {"GITHUB_STEP_SUMMARY", "STEERING_BENCH_*"} <= set(config["testenv"]["pass_env"].split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_valid_shell(script):
    checked = subprocess.run(["bash", "-n"], input=_EXPRESSION.sub("1", script), text=True, check=False)  # noqa: S607
    assert checked.returncode == 0


def test_the_token_can_read_and_nothing_else():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert [name for name, job in JOBS.items() if "permissions" in job] == []
    checkouts = steps_using("actions/checkout")
    assert len(checkouts) == len(JOBS)
    assert all(step["with"]["persist-credentials"] is False for _, step in checkouts)
    # YAML 1.1 reads the key `on` as true.
    assert set(WORKFLOW[True]) == {"push", "pull_request", "schedule", "workflow_dispatch"}


def test_actions_are_github_s_own_and_pinned_to_a_major_version():
    used = [step["uses"] for _, step in STEPS if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", name)] == []
    for action in {name.split("@")[0] for name in used}:
        assert len({step["uses"] for _, step in steps_using(action)}) == 1


def test_jobs_end_and_newer_runs_of_a_pull_request_replace_older_ones():
    assert all(0 < job["timeout-minutes"] <= 120 for job in JOBS.values())
    assert WORKFLOW["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


def test_the_cache_that_is_kept_is_the_one_that_the_benchmark_uses():
    kept = [step["with"]["path"] for _, step in steps_using("actions/cache")]
    assert set(kept) == {"${{ env.STEERING_BENCH_CACHE }}"}
    assert WORKFLOW["env"]["STEERING_BENCH_CACHE"].startswith("/")
    named = re.findall(r"'([^']+)'", " ".join(step["with"]["key"] for _, step in steps_using("actions/cache")))
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_results_are_kept_whatever_became_of_the_run():
    uploads = steps_using("actions/upload-artifact")
    assert {name for name, _ in uploads} == set(JOBS)
    assert all(step["if"] == "always()" for _, step in uploads)
    assert len({step["with"]["name"] for _, step in uploads}) == len(uploads)
    [written] = {words[words.index("--results") + 1] for words in commands("tox")}
    assert {step["with"]["path"] for _, step in uploads} == {written}


def test_the_shards_make_a_whole_that_is_joined():
    matrix = JOBS["shard"]["strategy"]["matrix"]["shard"]
    [line] = [script for script in SCRIPTS if "--shard" in script]
    [(shard, number)] = re.findall(r"--shard (\S+ \S+ \S+)/(\d+)", line)
    assert (shard, matrix) == ("${{ matrix.shard }}", list(range(1, int(number) + 1)))
    assert JOBS["shard"]["strategy"]["fail-fast"] is False
    assert JOBS["join"]["needs"] == "shard"
    [(_, download)] = steps_using("actions/download-artifact")
    [upload] = [step["with"]["name"] for name, step in steps_using("actions/upload-artifact") if name == "shard"]
    assert upload == download["with"]["pattern"].replace("*", "${{ matrix.shard }}")
    [merged] = [words for words in commands("steering") if words[0] == "merge"]
    assert merged[1] == f"{download['with']['path']}/*"
