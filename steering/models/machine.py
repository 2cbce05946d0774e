"""The machine that computes: its cores, its memory, and the speed of its matrix products."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST_INT = 2**31 - 1
# Of the square matrices whose product is timed.
_WIDTHS = (512, 1024, 2048)
_WARM_UPS, _REPEATS = 3, 15


def prepare_process() -> None:
    """Let this process compute at the machine's speed, and in float32 to the same bits whatever is computed together.

    There are as many threads as cores, memory is kept for the next batch, and MKL adds up products in an order that
    depends on neither the rows of a batch nor the threads, which takes no longer. OMP_NUM_THREADS and MKL_CBWR, where
    they are set, decide instead. MKL looks at its variable when a process multiplies for the first time.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(allowed_cores())
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


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that can still be used; what torch keeps for later is among them."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def whole_memory(device: torch.device) -> int | None:
    """Bytes of a GPU's memory, or None of another device; an Apple GPU's is what it may use of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return torch.mps.recommended_max_memory() if device.type == "mps" else None


def finish_computing() -> None:
    """Wait until an accelerator has done what it was given: its work goes on after a call has returned."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def matrix_product_ceiling(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the fastest matrix product of the machine, in floating-point operations per second.

    It is what a model's speed is held against: the largest of several sizes, each the median of repeated products.
    """
    return max(_product_speed(dtype, device, width) for width in _WIDTHS)


def _product_speed(dtype: torch.dtype, device: torch.device, width: int) -> float:
    left, right = (torch.full((width, width), 0.5, dtype=dtype, device=device) for _ in range(2))
    seconds = []
    for _ in range(_REPEATS + _WARM_UPS):
        started = time.perf_counter()
        functional.linear(left, right)
        finish_computing()
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / median(seconds[_WARM_UPS:])
