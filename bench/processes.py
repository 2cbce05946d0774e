"""What the processes of one run tell each other under pytest-xdist: the first shows what the others measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.run import Run
from steering.journal import parse_row

_KEY = "steering"


def is_worker(config: pytest.Config) -> bool:
    """Whether another process shows the tables."""
    return hasattr(config, "workerinput")


def greet(run: Run, node: Any) -> None:
    """Tell a process the name of the run."""
    node.workerinput["steering_run"] = run.request.name


def report(run: Run, config: pytest.Config) -> None:
    """In a process that ends: hand over what it measured."""
    message = {
        "rows": [row.to_json() for row in run.all_rows],
        "verdicts": [[*key, state] for key, state in run.verdicts.items()],
        "notes": run.notes,
        "cells": [[cell.method, cell.layer, cell.multiplier] for cell in run.cells],
        "sae_layers": run.sae_layers,
        "deselected": sorted(run.deselected),
        "is_empty_part": run.is_empty_part,
        "refusal": run.refusal,
        "was_stopped": run.was_stopped,
    }
    config.workeroutput[_KEY] = json.dumps(message)  # type: ignore[attr-defined]


def collect(run: Run, node: Any) -> None:
    """In the process that shows the tables: take what another one measured; one that crashed has written it down."""
    message = json.loads(getattr(node, "workeroutput", {}).get(_KEY, "{}"))
    if not message:
        run.has_lost_process = True
        return
    run.rows += map(parse_row, message["rows"])
    run.verdicts |= {(method, layer): state for method, layer, state in message["verdicts"]}
    run.notes += [note for note in message["notes"] if note not in run.notes]
    run.take_selection(message["cells"], message["sae_layers"], message["deselected"])
    run.is_empty_part = message["is_empty_part"]
    run.refusal = run.refusal or message["refusal"]
    run.was_stopped |= message["was_stopped"]
