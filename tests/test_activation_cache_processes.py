"""The activation cache under kills, full disks and other processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from steering import activation_cache
from steering.activation_cache import ActivationCache
from steering.progress import Silent
from tests.documents import ROOT
from tests.small_activations import UNIT, Notes, activations, bits, unit


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    return ActivationCache(tmp_path / "cache")


@pytest.fixture
def path(cache: ActivationCache) -> Path:
    """The file of the unit, written."""
    cache.write({UNIT: activations()}, Silent())
    [found] = cache.directory.iterdir()
    assert found.name == f"{UNIT.key}.safetensors"
    return found


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_interrupted_write_leaves_nothing(cache, monkeypatch, moment):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(*{"fsync": (os, "fsync", interrupt), "replace": (Path, "replace", interrupt)}[moment])
    with pytest.raises(KeyboardInterrupt):
        cache.write({UNIT: activations()}, Silent())
    assert list(cache.directory.iterdir()) == []
    monkeypatch.undo()
    cache.write({UNIT: activations()}, Silent())
    assert bits(cache.read(UNIT)) == bits(activations())


def test_interrupted_write_keeps_the_sound_file_of_before(cache, path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cache.write({UNIT: activations(1)}, Silent())
    assert bits(cache.read(UNIT)) == bits(activations())


WRITER = """
import os, signal, sys
from pathlib import Path
from steering.activation_cache import ActivationCache
from steering.progress import Silent
from tests.small_activations import UNIT, activations, bits

cache, task = ActivationCache(Path(sys.argv[1])), sys.argv[2]
if task == "die":
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    cache.write({UNIT: activations()}, Silent())
print("ready", flush=True)
sys.stdin.readline()
for _ in range(200):
    cache.write({UNIT: activations()}, Silent())
    assert bits(cache.read(UNIT)) == bits(activations())
    assert cache._writable
"""


def process(cache: ActivationCache, task: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(cache.directory), task]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_killed_process_leaves_nothing_that_is_read_and_what_it_left_is_removed_later(cache):
    with process(cache, "die") as killed:
        assert killed.wait(120) == -signal.SIGKILL
    [left] = cache.directory.iterdir()
    assert left.suffix == ".part"
    assert cache.read(UNIT) is None
    cache.write({UNIT: activations()}, Silent())
    assert left.exists(), "another process may be writing it"
    os.utime(left, times=(time.time() - 7200,) * 2)
    cache.write({UNIT: activations()}, Silent())
    assert not left.exists()
    assert bits(cache.read(UNIT)) == bits(activations())


def test_two_processes_that_write_one_file_both_read_it_right(cache):
    with process(cache, "write") as one, process(cache, "write") as other:
        for each in (one, other):
            assert each.stdout.readline() == "ready\n"
        for each in (one, other):
            each.stdin.write("go\n")
            each.stdin.close()
        assert [each.wait(120) for each in (one, other)] == [0, 0]
    assert [path.name for path in cache.directory.iterdir()] == [f"{UNIT.key}.safetensors"]
    assert bits(cache.read(UNIT)) == bits(activations())


def test_threads_that_share_a_small_cache_read_right_or_nothing(tmp_path):
    size = len(activation_cache._pack(activations(), UNIT))

    def work(seed: int) -> None:
        cache = ActivationCache(tmp_path / "cache", limit=2 * size)
        for number in np.random.default_rng(seed).integers(0, 5, 60).tolist():
            cache.write({unit(number): activations(number)}, Silent())
            found = cache.read(unit(number))
            assert found is None or bits(found) == bits(activations(number))
            assert cache._writable

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    files = list((tmp_path / "cache").iterdir())
    assert 0 < len(files) <= 2
    assert {path.suffix for path in files} == {".safetensors"}


@pytest.mark.parametrize("fault", ["no directory", "full", "read-only"])
def test_cache_that_cannot_be_written_costs_one_note(tmp_path, monkeypatch, fault):
    def fail(number):
        def raising(*_, **__):
            raise OSError(number, os.strerror(number))

        return raising

    directory = tmp_path / "file" / "cache" if fault == "no directory" else tmp_path / "cache"
    (tmp_path / "file").write_bytes(b"")
    if fault == "full":
        monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))
    elif fault == "read-only":
        monkeypatch.setattr(Path, "mkdir", fail(errno.EROFS))
    cache, notes = ActivationCache(directory), Notes()
    for _ in range(2):
        found = cache.obtain(
            {3: unit(3), 4: unit(4)}, lambda layers: {layer: activations(layer) for layer in layers}, notes
        )
        assert [bits(found[layer]) for layer in (3, 4)] == [bits(activations(layer)) for layer in (3, 4)]
    [said] = notes.said
    assert str(directory) in said
    reason = {"no directory": "Not a directory", "full": "No space left", "read-only": "Read-only file system"}[fault]
    assert reason in said
    assert not directory.exists() or list(directory.iterdir()) == []


def test_cache_that_cannot_be_written_is_read_all_the_same(cache, path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    notes = Notes()
    found = cache.obtain({0: UNIT}, lambda _: pytest.fail("captured"), notes)
    assert bits(found[0]) == bits(activations())
    assert notes.said == []
