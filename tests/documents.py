"""Code blocks of the project's documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from steering.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_blocks(path: Path, language: str) -> list[str]:
    """Return the code blocks of one language, in their order."""
    return [body for found, body in _BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def _options(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--")}


def unknown_benchmark_options(words: list[str], config: pytest.Config) -> set[str]:
    """Options among the words after `pytest bench` that pytest does not know in this checkout."""
    known = {name for option in config._parser._groups for entry in option.options for name in entry.names()}
    return _options(words) - {"--help"} - known


def unknown_steering_options(words: list[str]) -> set[str]:
    """Options among the words after `steering` that its command does not have; KeyError if there is no such command."""
    found, rest = typer.main.get_command(main.app), list(words)
    while hasattr(found, "commands"):
        found = found.commands[rest.pop(0)]
    return _options(rest) - {option for parameter in found.params for option in parameter.opts}
