"""Names of columns, of any kind of file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from petkit.errors import listed


def named_twice(columns: Sequence[str]) -> str:
    """Say which names several columns have; empty if none."""
    twice = sorted(name for name, times in Counter(columns).items() if name and times > 1)
    return f"column {listed(list(map(repr, twice)))} is named twice" if twice else ""
