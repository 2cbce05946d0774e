"""Code blocks of the project's documents."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_blocks(path: Path, language: str) -> list[str]:
    """Return the code blocks of one language, in their order."""
    return [body for found, body in _BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]
