"""The machine that computes: its cores, its memory, and how much is computed at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import torch

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST_INT = 2**31 - 1
# Tokens of a batch, by kind of device: where what a pass takes for each operation, whatever its size, hardly counts.
_TOKEN_BUDGETS = {"cpu": 4096}
_TOKEN_BUDGET = 16384
# What caches and logits of rows that are decoded together may take; on a GPU, a part of what is free.
_DECODING_BYTES = 1 << 30
_DECODING_SHARE = 1 / 4
# What one batch's logits may take; on a GPU, a part of its memory, since a loss needs a few copies of them in float32.
_LOGITS_BYTES = 1 << 29
_LOGITS_SHARE = 1 / 16


def prepare_process() -> None:
    """Let this process compute at the machine's speed, and in float32 to the same bits whatever is computed together.

    There are as many threads as cores, which the processes of pytest-xdist share. Memory is kept for the next batch.
    MKL adds up products in an order that depends on neither the rows of a batch nor the threads, which takes no longer.
    OMP_NUM_THREADS and MKL_CBWR, where they are set, decide instead; MKL looks at its variable when a process
    multiplies for the first time.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    if "OMP_NUM_THREADS" not in os.environ:
        processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        torch.set_num_threads(max(1, allowed_cores() // processes))
    if sys.platform == "linux":
        _keep_freed_memory()


def allowed_cores() -> int:
    """Number of cores that this process may use: a container may be allowed fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = map(int, _QUOTA.read_text(encoding="ascii").split())
        cores = min(cores, max(1, round(quota / period)))
    return cores


def _keep_freed_memory() -> None:
    """Let glibc keep large blocks: returned to the kernel, they are cleared page by page at their next use.

    That takes up to half of the time of a forward pass. Another C library is left alone.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)


def release_freed_memory() -> None:
    """Return what is free to the kernel, between pieces of work: pieces of unlike sizes leave ever more holes."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def token_budget(device: torch.device, dtype: torch.dtype, vocabulary: int) -> int:
    """Tokens of a batch with which a device computes at its full speed, so far as memory holds their logits."""
    memory = _whole_memory(device)
    available = _LOGITS_BYTES if memory is None else int(memory * _LOGITS_SHARE)
    size = dtype.itemsize if memory is None else torch.float32.itemsize
    most = max(1, available // (size * vocabulary))
    return min(_TOKEN_BUDGETS.get(device.type, _TOKEN_BUDGET), most)


def decoding_bytes(device: torch.device) -> int:
    """What caches and logits of rows that are decoded together may take."""
    if device.type != "cuda":
        return _DECODING_BYTES
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for later
    free = int(torch.cuda.mem_get_info(device)[0]) + kept
    return max(_DECODING_BYTES, int(free * _DECODING_SHARE))


def _whole_memory(device: torch.device) -> int | None:
    """Bytes of a GPU's memory, or None of another device; an Apple GPU's is what it may use of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return torch.mps.recommended_max_memory() if device.type == "mps" else None
