"""Rows some at a time, so that memory depends neither on their number nor on the length of their texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

CHUNK, CHUNK_CHARACTERS = 1024, 2**19  # rows and characters at a time
Row = TypeVar("Row")


def chunks(rows: Iterable[Row], size: Callable[[Row], int]) -> Iterator[list[Row]]:
    """Yield rows as many at a time as are worked on together: some thousand, or fewer long ones.

    Args:
        size: returns about how many characters a row has.
    """
    chunk: list[Row] = []
    taken = 0
    for row in rows:
        chunk.append(row)
        taken += size(row)
        if len(chunk) >= CHUNK or taken >= CHUNK_CHARACTERS:
            yield chunk
            chunk, taken = [], 0
    if chunk:
        yield chunk
