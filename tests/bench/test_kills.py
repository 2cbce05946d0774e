"""Runs that are killed at any moment: what they measured is kept, and a resumed run ends as an undisturbed one."""

from __future__ import annotations

import os
import subprocess
import sys

from steering.journal import load_rows
from tests.documents import ROOT
from tests.small_rows import measured

KILLS = 10
# Everything is imported once. Each run is a fork, which dies as a killed process does, without a chance to tidy up.
SCRIPT = """
import os, random, signal, sys, time
import pytest
from steering.methods import methods
from steering.metrics import metrics
from steering.sweeps.sweep import Sweep
from steering import activation_cache
from pathlib import Path

PLUGINS = (*methods, *metrics)
Sweep._together = 1  # as where memory allows no more: there are more moments to be killed at
*arguments, root, kills = sys.argv[1:]
root = Path(root)
activation_cache.cache_directory = lambda: root / "cache"

def start(directory):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(root / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        plugins = ["-p", "no:cacheprovider", "-p", "no:anyio"]  # anyio's cannot be loaded after nnsight
        options = ["bench", *arguments, "--resume", "--results", str(directory), *plugins]
        os._exit(pytest.main(options))
    return child

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

started = time.monotonic()
assert end(start(root / "whole")) == 0
seconds = time.monotonic() - started
draw, killed, directory = random.Random(3), 0, 0
while killed < int(kills):
    child = start(root / f"killed-{directory}")
    time.sleep(draw.uniform(0.1, 1) * seconds)
    os.kill(child, signal.SIGKILL)
    if end(child) == -signal.SIGKILL:
        killed += 1
    else:
        directory += 1  # it had ended before: the next begins anew
    if killed % 3 == 0 and end(start(root / f"killed-{directory}")) == 0:
        directory += 1
for number in range(directory + 1):
    assert end(start(root / f"killed-{number}")) == 0
print(directory + 1)
"""


def test_run_killed_at_ten_moments_and_resumed_equals_an_undisturbed_one(arguments, tmp_path):
    options = [argument for argument in arguments if not argument.startswith("--results")]
    command = [sys.executable, "-c", SCRIPT, *options, str(tmp_path), str(KILLS)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for each other are slow beside other work
    ended = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=1800, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    expected = measured(load_rows(tmp_path / "whole"))
    assert len(expected) == 9 * 5
    for number in range(int(ended.stdout)):
        assert measured(load_rows(tmp_path / f"killed-{number}")) == expected
