"""Where things are: what ships with the package, the project's cache, and whether a path leads anywhere."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "STEERING_BENCH_CACHE"


def is_file(path: Path | str) -> bool:
    """Whether a file is there: False, not an error as of `Path.is_file`, for what cannot be a path at all."""
    return os.path.isfile(path)  # noqa: PTH113


def is_directory(path: Path | str) -> bool:
    """Whether a directory is there; as `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def is_path(path: Path | str) -> bool:
    """Whether anything is there; as `is_file`."""
    return os.path.exists(path)  # noqa: PTH110


def data_directory(name: str) -> Path:
    """One of the directories of data that ship with the package."""
    return Path(str(resources.files("steering"))) / "data" / name


def cache_directory() -> Path:
    """The project's cache: `STEERING_BENCH_CACHE` where it is set, else the platform's cache directory."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override) if override else Path(platformdirs.user_cache_dir("steering-bench"))
