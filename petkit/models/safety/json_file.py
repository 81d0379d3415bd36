"""The small JSON files of model folders, read with a bound on their size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from petkit.errors import ModelRefused, shown_path

LARGEST = 16 * 2**20


def read_mapping(path: Path, largest: int = LARGEST) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        largest: how many bytes it may have.

    Raises:
        ModelRefused: missing, too large, or something else.
    """
    shown = shown_path(path.parent)
    try:
        if path.stat().st_size > largest:
            raise ModelRefused(f"{shown}: {path.name} is larger than {largest / 2**20:,.0f} MiB, which no model's is")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ModelRefused(f"{shown}: {path.name} is not valid JSON")
    return content
