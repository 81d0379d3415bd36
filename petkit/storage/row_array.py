"""Arrays with an entry per row of a data set: in memory where they are short, otherwise in a memory-mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from petkit.storage.fault_points import crash_point

# Beyond this many rows of a data set, what is known of each row is stored on disk.
HELD_ROWS = 10_000


class RowArray:
    """Entries of one type and shape, appended block by block and read by their numbers.

    Without a ``path`` they are in memory. A file is truncated first, and mapped again for every read: pages of a lasting map
    count as this process's memory once they are touched.
    """

    def __init__(self, dtype: DTypeLike, shape: tuple[int, ...] = (), path: Path | None = None) -> None:
        self.dtype, self.shape, self.path = np.dtype(dtype), shape, path
        self._entries = 0
        self._held: list[NDArray[Any]] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")

    def append(self, block: NDArray[Any]) -> None:
        """Add entries, an array of shape ``(entries, *shape)``."""
        block = np.ascontiguousarray(block, self.dtype)
        self._entries += len(block)
        if self.path is None:
            self._held.append(block)
        else:
            with self.path.open("ab") as file:
                crash_point("rows: before write")
                block.tofile(file)
                crash_point("rows: written")

    def __len__(self) -> int:
        return self._entries

    def __getitem__(self, entries: NDArray[np.int64] | Sequence[int] | slice) -> NDArray[Any]:
        """Return a copy of the entries of these numbers."""
        return np.array(self.whole()[entries])

    def whole(self) -> NDArray[Any]:
        """Return all entries; those of a file are read on access, and stay mapped while anything refers to them."""
        if self.path is not None and self._entries and self.path.stat().st_size:  # an empty file cannot be mapped
            return np.asarray(np.memmap(self.path, self.dtype, "r", shape=(self._entries, *self.shape)))
        if len(self._held) != 1:
            self._held = [np.concatenate([np.zeros((0, *self.shape), self.dtype), *self._held])]
        return self._held[0]
