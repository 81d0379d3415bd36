"""Reading the small JSON files of model folders, with a bound on their size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from petkit.errors import ModelRefused, shown_path

LARGEST = 16 * 2**20


def read_mapping(path: Path, largest: int = LARGEST) -> dict[str, Any]:
    """Return the JSON object in a file of at most ``largest`` bytes.

    Raises:
        ModelRefused: the file is missing, too large, or not a JSON object.
    """
    shown = shown_path(path.parent)
    try:
        if path.stat().st_size > largest:
            raise ModelRefused(f"{shown}: {path.name} is larger than {largest / 2**20:,.0f} MiB, too large for a model's")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ModelRefused(f"{shown}: {path.name} is not valid JSON")
    return content
