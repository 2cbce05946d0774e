"""Which positions of a text are steered."""

from __future__ import annotations

from typing import Literal

#: The prompt's, as in the paper, or also those of the tokens that follow it, whether they are scored or generated.
Positions = Literal["prompt", "all"]
