"""The summary of a step of GitHub Actions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "GITHUB_STEP_SUMMARY"
# GitHub shows nothing of a step whose summary is larger.
_LARGEST = 1024 * 1024
_CUT = "\n(The rest is left out: a step's summary holds 1 MiB.)\n"


def append_step_summary(markdown: str, environment: Mapping[str, str]) -> str:
    """Append Markdown to the step's summary, where the environment names a file for it.

    A summary is a by-product: what goes wrong is told, and nothing is raised. What would exceed 1 MiB in all is cut at
    the end of a line, and the summary says so.

    Args:
        markdown: What to append, on lines of its own.
        environment: `os.environ`, or what stands for it.

    Returns:
        A remark on what could not be written, or an empty string.
    """
    named = environment.get(_VARIABLE)
    if not named:
        return ""
    path = Path(named)
    try:
        before = path.read_bytes() if path.exists() else b""
        block = _separation(before) + markdown.encode("utf-8", errors="replace")
        kept = _fitting(block, _LARGEST - len(before))
        with path.open("ab") as file:
            file.write(kept)
    except (OSError, ValueError) as error:  # a path that holds a null character is a ValueError
        return f"The step summary was not written: {_VARIABLE} names {named!r}: {error}."
    return "" if kept == block else f"The step summary was cut: {_VARIABLE} holds 1 MiB at most."


def _separation(before: bytes) -> bytes:
    """An empty line between what is there and what comes."""
    if not before:
        return b""
    return b"\n" if before.endswith(b"\n") else b"\n\n"


def _fitting(block: bytes, room: int) -> bytes:
    """As many whole lines as there is room for, and a note where that is not all."""
    if len(block) <= room:
        return block
    note = _CUT.encode()
    if room < len(note):
        return b""
    lines = block[: room - len(note)]
    return lines[: lines.rfind(b"\n") + 1] + note
