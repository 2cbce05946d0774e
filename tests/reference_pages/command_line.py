"""The `steering` command and the options of `pytest bench`, as Markdown.

What a parser knows is asked, and nothing that was printed is read: the pages do not depend on a terminal's width.
"""

from __future__ import annotations

import enum
import inspect
import runpy
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from steering.cli import main
from tests.documents import ROOT
from tests.reference_pages.markdown import anchor, block, code, joined, table

_WORDS = {int: "whole number", float: "number", str: "text", Path: "path"}
_HEADINGS = ("option", "value", "default", "meaning")

INTRODUCTION = """\
The `steering` command, and the options that this project adds to pytest in its checkout. Each command has `--help` too.
A user's mistake ends with one message on standard error and exit status 2, or 4 of `pytest bench`
(2 where it shows only once the model is loaded)."""


def page() -> str:
    """The whole page."""
    commands = list(_commands(typer.main.get_command(main.app), "steering"))
    summaries = [[f"[{code(path)}](#{anchor(path)})", _help(command).split("\n\n")[0]] for path, command in commands]
    return joined(
        "# Command line",
        INTRODUCTION,
        table(("command", "what it does"), [*summaries, ["[`pytest bench`](#pytest-bench)", BENCH]]),
        *(_command(path, command) for path, command in commands),
        _bench(),
    )


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and command of each that does something, in the order of the help."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, part in command.commands.items():
        yield from _commands(part, f"{path} {name}")


def _help(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def _command(path: str, command: Any) -> str:
    """A command with its arguments and options, of which typer's own annotations say more than its parser."""
    hints = typing.get_type_hints(command.callback, include_extras=True)
    arguments, options = [], []
    for parameter in command.params:
        kind, details = typing.get_args(hints[parameter.name])
        default = "required" if parameter.required else _default(parameter.default)
        line = [_value(kind, details), default, details.help or ""]
        if parameter.param_type_name == "argument":
            name = (details.metavar or parameter.name.upper()).removesuffix("…")
            arguments.append([code(f"{name}…" if parameter.nargs < 0 else name), *line])
        else:
            options.append([", ".join(map(code, (*parameter.opts, *parameter.secondary_opts))), *line])
    usage = " ".join([path, *(line[0].strip("`") for line in arguments), *(["[OPTIONS]"] if options else [])])
    return joined(
        f"## {path}",
        block(usage, "text"),
        _help(command),
        table(("argument", *_HEADINGS[1:]), arguments),
        table(_HEADINGS, options),
    )


def _value(kind: Any, details: Any) -> str:
    """What an option takes, in words; nothing for one that stands alone."""
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        [kind] = [part for part in typing.get_args(kind) if part is not types.NoneType]
    if typing.get_origin(kind) is list:
        often = "repeatable" if isinstance(details, typer.models.OptionInfo) else "one or more"
        return f"{_value(typing.get_args(kind)[0], details)}, {often}"
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(map(code, typing.get_args(kind)))
    if kind is bool:
        return ""
    if issubclass(kind, enum.Enum):
        return ", ".join(code(str(choice.value)) for choice in kind)
    limits = ((details.min, "at least"), (details.max, "at most"))
    told = [f"{words} {limit:g}" for limit, words in limits if limit is not None]
    is_shown = details.metavar and isinstance(details, typer.models.OptionInfo)
    return ", ".join([code(details.metavar) if is_shown else _WORDS[kind], *told])


def _default(value: Any) -> str:
    """A default; one that stands for nothing is left out."""
    if isinstance(value, enum.Enum):
        return code(str(value.value))
    return "" if value is None or value is False or value == "" else code(str(value))


class BenchOptions:
    """Takes the place of pytest's parser and notes what it is asked to add."""

    def __init__(self) -> None:
        self.options: list[tuple[str, dict[str, Any]]] = []

    def getgroup(self, *_: str) -> BenchOptions:
        return self

    def addoption(self, name: str, **details: Any) -> None:
        self.options.append((name, details))


BENCH = "Runs the benchmark: each test is a construction method at a layer."
_BENCH_TEXT = """\
All options of pytest can be given too: `-k layer20` selects by name, `-n 4` distributes over processes where
pytest-xdist is installed, `--benchmark-json FILE` keeps the timings."""


def _bench() -> str:
    parser = BenchOptions()
    runpy.run_path(str(ROOT / "conftest.py"))["pytest_addoption"](parser)
    lines = []
    for name, details in parser.options:
        choices = ", ".join(map(code, details.get("choices", ())))
        word = code(details["metavar"]) if "metavar" in details else _WORDS[details.get("type", str)]
        value = "" if details.get("action") == "store_true" else choices or word
        lines.append([code(name), value, _default(details.get("default")), details["help"]])
    return joined(
        "## pytest bench", block("pytest bench [OPTIONS]", "text"), BENCH, _BENCH_TEXT, table(_HEADINGS, lines)
    )
