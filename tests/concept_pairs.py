"""Looking through the pairs of the concepts that ship with the package."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from steering.concept_files import concept_directory


def records(concept: str, split: str) -> list[dict[str, str]]:
    """The lines of a split, as they are in the file."""
    lines = (concept_directory(concept) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def faults_in(pairs: Iterable[dict[str, str]], fault: Callable[[dict[str, str]], Any]) -> dict[str, Any]:
    """What `fault` finds, by id of the pair, where it finds something."""
    return {pair["id"]: found for pair in pairs if (found := fault(pair))}


def length(text: str) -> int:
    """Number of words."""
    return len(text.split())


def unusual(counts: Iterable[int], low: int, high: int) -> list[int]:
    """Those outside some bounds."""
    return [count for count in counts if not low <= count <= high]
