"""Which tests of a session are the benchmark's, and what each of them measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steering.profiles import Profile
from steering.sweeps.cells import with_controls


def is_own(item: pytest.Item) -> bool:
    """Whether a test is of this directory: others, in the same session, may call their fixtures as they like."""
    return item.path.is_relative_to(Path(__file__).parent)


def fixtures(item: pytest.Item) -> list[str]:
    """Names of the fixtures of a test of the benchmark."""
    return getattr(item, "fixturenames", []) if is_own(item) else []


def parameter(item: pytest.Item, name: str) -> Any:
    """A parameter of a test of the benchmark, or None where it has no such parameter."""
    return item.callspec.params.get(name) if is_own(item) and hasattr(item, "callspec") else None


def group(profile: Profile, item: pytest.Item) -> object:
    """What the tests share that one shard runs together: a control, which would else be measured in two."""
    cell = parameter(item, "cell")
    return item if cell is None else with_controls(profile, [cell])[0]
