"""Ask each library in a process of its own, compare what they found, and print the times."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.peers.agreement import agreements, disagreements, logit_difference, steered_difference
from bench.peers.exchange import Job, Pair, Report, read_report, write_job
from bench.peers.model_directory import write_for_transformers_4
from bench.peers.tables import agreement_table, caption, time_table
from steering.concept_files import load_concept
from steering.errors import SteeringError
from steering.models import embedded

VARIABLE = "STEERING_BENCH_PEERS"
_ROOT = Path(__file__).parents[2]
_LAST_LINES = 12


@dataclass(frozen=True)
class Side:
    """A library, and how to run it.

    Attributes:
        library: As it is called on the package index.
        interpreter: Python of the environment that has it.
        module: Its process.
    """

    library: str
    interpreter: str
    module: str


def main() -> int:
    """Run the comparison; the exit status is 1 where something disagrees, 2 where it could not be run."""
    try:
        sides = find_sides(os.environ)
        with tempfile.TemporaryDirectory(prefix="steering-bench-peers-") as scratch:
            directory = Path(scratch)
            job = make_job(directory)
            write_job(directory, job)
            reports = {side.library: ask(side, directory) for side in sides}
    except SteeringError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return show(job, reports)


def find_sides(environment: Mapping[str, str]) -> list[Side]:
    """Name the three libraries with their interpreters, this project's first.

    Raises:
        SteeringError: The environment of the other two is missing.
    """
    peers = environment.get(VARIABLE, "")
    if not Path(peers).is_file():
        raise SteeringError(
            f"steering-vectors and repeng need an environment of their own: {VARIABLE} should name its Python "
            f"interpreter and is {peers!r}. `tox -e peers` makes one; another is good after "
            "`pip install -r bench/peers/requirements.txt`."
        )
    return [
        Side("steering-bench", sys.executable, "bench.peers.run_steering_bench"),
        Side("steering-vectors", peers, "bench.peers.run_steering_vectors"),
        Side("repeng", peers, "bench.peers.run_repeng"),
    ]


def make_job(directory: Path) -> Job:
    """Decide what is compared and timed, with the embedded model in a form that all can read."""
    target = directory / "model"
    write_for_transformers_4(embedded.ensure_embedded_model(), target)
    concept = load_concept("gender")
    return Job(
        model_directory=str(target),
        model=embedded.NAME,
        pairs=tuple(Pair(pair.prompt, pair.positive, pair.negative) for pair in concept.generation[:40]),
        layer_count=embedded.LAYER_COUNT,
        prompt=concept.rollout_prompts[0],
        steered_layers=(12, 16, 20),
        multipliers=(6.0, 12.0),
        rollouts=100,
        new_tokens=40,
        top_p=0.8,
        seed=0,
        threads=torch.get_num_threads(),
    )


def ask(side: Side, directory: Path) -> Report:
    """Run one library's process and read its answer.

    Raises:
        SteeringError: The process failed.
    """
    print(f"{side.library} …", file=sys.stderr, flush=True)
    settings = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(  # noqa: S603 - an interpreter with a module of this project
        [side.interpreter, "-m", side.module, str(directory)],
        cwd=_ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        last = "\n".join((result.stdout + result.stderr).splitlines()[-_LAST_LINES:])
        raise SteeringError(f"the process of {side.library} ended with {result.returncode}:\n{last}")
    return read_report(directory, side.library)


def show(job: Job, reports: Mapping[str, Report]) -> int:
    """Print what agrees, what took how long, and what disagrees."""
    compared = agreements(reports)
    print(agreement_table(compared))
    for what, difference in (("logits after one text", logit_difference), ("its steered losses", steered_difference)):
        apart = [f"{library} {difference(reports[library], reports['steering-bench']):.1g}" for library in reports]
        print(f"Largest difference of {what}, from steering-bench's: {', '.join(apart[1:])}.")
    print()
    print(time_table(list(reports.values())))
    print(textwrap.fill(caption(job), 120))
    found = list(disagreements(reports, compared))
    for disagreement in found:
        print(f"Error: {disagreement}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
