"""Progress of long work: a bar on a terminal; elsewhere lines, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class Advance(Protocol):
    """Reports that some steps are done."""

    def __call__(self, steps: int = 1) -> None:
        """Advance the bar by `steps`."""
        ...


class Reporter(Protocol):
    """Opens a bar for one piece of work and closes it when the work ends."""

    @contextmanager
    def work(self, description: str, total: int) -> Iterator[Advance]:
        """Yield the function to call as steps complete.

        Args:
            description: What is done, for people.
            total: Steps in all.
        """
        ...

    def note(self, message: str) -> None:
        """Say what begins, where its steps cannot be counted."""
        ...


@dataclass(frozen=True)
class Silent:
    """Reports nothing: for programs, logs and pipes."""

    @contextmanager
    def work(self, description: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's signature
        """Yield a function that does nothing."""

        def advance(steps: int = 1) -> None:
            del steps

        yield advance

    def note(self, message: str) -> None:
        """Say nothing."""


SILENT = Silent()


class Bars:
    """Bars on a terminal's standard error, removed when done; a note stands above a bar that is there."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def work(self, description: str, total: int) -> Iterator[Advance]:
        """Show one bar with the steps done and the time that remains."""
        # Descriptions and notes hold names and paths; brackets in them are no markup.
        description_column = TextColumn("{task.description}", markup=False)
        columns = (description_column, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(description, total=total)

            def advance(steps: int = 1) -> None:
                progress.advance(task, steps)

            yield advance

    def note(self, message: str) -> None:
        """Print one line."""
        self._console.print(Text(message, style="dim"))


class Lines:
    """A line on standard error now and then: for long work whose output goes to a log.

    What takes less than a second is not told.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds

    @contextmanager
    def work(self, description: str, total: int) -> Iterator[Advance]:
        """Print how much is done, at most once in a while, and when it is all done."""
        started = spoken = time.monotonic()
        done = 0

        def advance(steps: int = 1) -> None:
            nonlocal done, spoken
            done += steps
            if time.monotonic() - spoken >= self._seconds:
                spoken = time.monotonic()
                self.note(f"{description}: {done} of {total}, {spoken - started:.0f} s")

        yield advance
        if (taken := time.monotonic() - started) >= 1:
            self.note(f"{description}: done, {taken:.0f} s")

    def note(self, message: str) -> None:
        """Print one line."""
        print(message, file=sys.stderr, flush=True)


def for_log() -> Reporter:
    """Bars where standard error is a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines()


def for_terminal() -> Reporter:
    """Bars where standard error is a terminal, silence elsewhere."""
    return Bars() if sys.stderr.isatty() else SILENT
