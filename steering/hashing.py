"""What tells one set of data or settings from another."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def json_hash(value: Any) -> str:
    """SHA-256 of a value as JSON, the keys of its objects in order; what JSON has no form for counts as its text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
