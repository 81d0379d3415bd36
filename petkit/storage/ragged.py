"""Rows of different lengths as one matrix: the answers of a row that has no fixed labels, but candidates of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

# In place of a logit behind a row's last one: no temperature makes its probability other than 0, and no sum makes it infinite.
ABSENT = -1e35
# What was ABSENT and divided by a temperature is still below.
_BELOW = ABSENT / 1e4


def present(logits: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which entries of a matrix of logits are a row's own, the shape of ``logits``."""
    return np.asarray(~(logits <= _BELOW))  # NaN is a row's own


def widened(matrix: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return a matrix ``(…, columns)`` with at least ``width`` columns, those added absent."""
    missing = width - matrix.shape[-1]
    if missing <= 0:
        return matrix
    return np.concatenate([matrix, np.full((*matrix.shape[:-1], missing), ABSENT, np.float32)], axis=-1)


def stacked(blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return blocks of rows ``(rows, columns)`` one below the other, as wide as the widest.

    >>> present(stacked([np.ones((1, 1), np.float32), np.ones((1, 2), np.float32)])).tolist()
    [[True, False], [True, True]]
    """
    held = list(blocks)
    width = max(block.shape[-1] for block in held)
    return np.concatenate([widened(block, width) for block in held])


def from_rows(values: NDArray[np.float32], lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a matrix of rows whose values lie behind each other in ``values``, so many of each."""
    own = np.arange(int(np.max(lengths, initial=0))) < np.asarray(lengths)[:, None]  # (rows, width)
    matrix = np.full(own.shape, ABSENT, np.float32)
    matrix[own] = values
    return matrix
