"""How many cores and what memory the process computes with, and the ceiling that speed is held against."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from steering.models import machine

THREADS = (
    "import torch; from steering.models.machine import prepare_process; "
    "prepare_process(); print(torch.get_num_threads())"
)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1), ("150000 100000", 2), ("900000 100000", 4), ("", 4)],
)
def test_cores_are_those_that_affinity_and_quota_allow(tmp_path, monkeypatch, quota, cores):
    path = tmp_path / "cpu.max"
    path.write_text(quota, encoding="ascii")
    monkeypatch.setattr(machine, "_QUOTA", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert machine.allowed_cores() == cores


def test_cores_without_a_control_group_are_those_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.allowed_cores() == os.cpu_count()


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({}, machine.allowed_cores()),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"PYTEST_XDIST_WORKER_COUNT": str(2 * machine.allowed_cores())}, 1),
    ],
)
def test_threads_are_the_cores_unless_the_environment_says_otherwise(given, threads):
    deciding = {"OMP_NUM_THREADS", "PYTEST_XDIST_WORKER_COUNT"}
    environment = {key: value for key, value in os.environ.items() if key not in deciding} | given
    found = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True)
    assert int(found.stdout) == threads


def test_another_c_library_is_left_alone(monkeypatch):
    asked = []

    class Other:
        def __getattr__(self, name):
            asked.append(name)
            raise AttributeError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: Other())
    machine._keep_freed_memory()
    machine.release_freed_memory()
    assert asked == ["mallopt", "malloc_trim"]


# The embedded model's products, outputs × inputs, at numbers of rows for which MKL has kernels of their own.
PRODUCTS = """
import torch
from steering.models.machine import prepare_process

prepare_process()
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
different = []
for shape in ((576, 576), (192, 576), (1536, 576), (576, 1536), (49152, 576)):
    weights = torch.randn(shape, generator=generator)
    inputs = torch.randn(520, shape[1], generator=generator)
    together = torch.nn.functional.linear(inputs, weights)
    for rows in (8, 16, 24, 32, 48, 64, 96, 128, 192, 200, 256, 400):
        if not torch.equal(torch.nn.functional.linear(inputs[:rows], weights), together[:rows]):
            different.append((shape, rows))
print(different)
"""


def test_a_row_of_a_float32_product_does_not_depend_on_how_many_there_are():
    environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
    command = [sys.executable, "-c", PRODUCTS]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


MEMORY = """
import resource, torch
from steering.models.machine import prepare_process, release_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

prepare_process()
blocks = [torch.ones(1 << 20) for _ in range(64)]
guard = torch.ones(1 << 20)
full = resident()
del blocks
kept = resident()
release_freed_memory()
print(full - kept, kept - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is set only where it is")
def test_freed_memory_is_kept_until_it_is_released():
    found = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    freed, released = map(int, found.stdout.split())
    assert freed < 16 << 20
    assert released > 200 << 20
