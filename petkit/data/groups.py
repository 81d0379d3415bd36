"""Rows that belong together, such as the answers to one question: where in a file each group begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.data.cells import is_missing
from petkit.errors import did_you_mean

# The number of each row's group, rising, shape ``(rows,)``.
GroupNumbers: TypeAlias = NDArray[np.int64]


class GroupReader:
    """Finds the groups of rows that are read one after the other; the rows of a group stand together.

    Attributes:
        starts: the numbers of the rows at which groups began, rising.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self.starts: list[int] = []
        self._lines: dict[str, int] = {}  # group → line of its first row
        self._current: str | None = None

    def read(self, row: int, values: Mapping[str, Any], line: int) -> tuple[str, str]:
        """Take a row, by its number, columns and line; returns what is wrong with its group, and a hint, or nothing."""
        if self.column not in values:
            return "missing", did_you_mean(self.column, list(map(str, values)))
        if is_missing(value := values[self.column]) or isinstance(value, (list, dict)):
            return "names no group", "write what the rows of a group have in common, such as the number of their question"
        group = str(value)
        if group == self._current:
            return "", ""
        if (first := self._lines.get(group)) is not None:
            return f"group {group!r:.60} was before, from line {first} on", "sort the file: the rows of a group stand together"
        self._lines[group] = line
        self._current = group
        self.starts.append(row)
        return "", ""


def numbers_of(starts: Iterable[int], rows: int) -> GroupNumbers:
    """Return the number of each row's group, from the row numbers at which groups begin.

    >>> numbers_of([0, 2, 3], rows=5).tolist()
    [0, 0, 1, 2, 2]
    """
    begins = np.zeros(rows, np.int64)
    begins[[start for start in starts if start < rows]] = 1  # a group may have no row left where rows without a text are left out
    return np.asarray(np.cumsum(begins) - 1)


def drawn_groups(groups: GroupNumbers, rows: int) -> NDArray[np.int64]:
    """Return the numbers of the rows of whole groups, drawn at random until there are at least so many rows; the same each time.

    >>> drawn_groups(np.array([0, 0, 1, 2, 2, 2]), rows=4).tolist()
    [0, 1, 3, 4, 5]
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng(0).permutation(len(sizes))
    enough = int(np.searchsorted(np.cumsum(sizes[order]), rows)) + 1
    return np.flatnonzero(np.isin(groups, order[:enough]))
