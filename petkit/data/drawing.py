"""Rows drawn at random by their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np
from numpy.typing import NDArray


def drawn_numbers(rows: int, count: int) -> NDArray[np.int64]:
    """Return the numbers of ``count`` of so many rows, drawn at random, rising; the same ones each time."""
    return np.sort(np.random.default_rng(0).choice(rows, count, replace=False, shuffle=False))


def are_in(numbers: NDArray[np.int64]) -> Iterator[bool]:
    """Say of 0, 1, … whether each is among rising numbers, in memory for one of them."""
    before = -1
    for number in numbers:
        yield from repeat(False, int(number) - before - 1)
        yield True
        before = int(number)
    yield from repeat(False)
