"""Mistakes in data as written: where, and what; and how rules read what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str | int, ...]
Mistakes: TypeAlias = list[tuple[Place, str]]


def value_of(data: Mapping[str, Any], *keys: str, default: Any = None) -> Any:
    """Return the value below ``keys``, or ``default`` where there is none."""
    holder: Any = data
    for key in keys:
        holder = holder.get(key) if isinstance(holder, Mapping) else None
    return default if holder is None else holder


def number(value: Any) -> float:
    """Return a number as it is, and 0 for anything else (the schema reports that)."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def below(place: Place, mistakes: Mistakes) -> Mistakes:
    """Return the mistakes of a section at their places in the whole."""
    return [((*place, *inside), message) for inside, message in mistakes]
