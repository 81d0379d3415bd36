"""Token ids of many rows, tokenised once and read at random: flat arrays, on disk when there are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from petkit.task.examples import Example
from petkit.task.pattern import FieldKey, Truncate, shorten
from petkit.task.tokenization import IntArray, PieceTokenizer

CHUNK = 1024


class TokenStore:
    """The field tokens of every row of a source, for one tokenizer.

    Fields are clipped to ``max_length`` tokens when stored: no pattern can use more.
    """

    def __init__(self, flat: dict[FieldKey, IntArray], offsets: dict[FieldKey, np.ndarray]) -> None:
        self._flat = flat
        self._offsets = offsets
        self.rows = 0 if not offsets else len(next(iter(offsets.values()))) - 1

    @classmethod
    def build(
        cls,
        examples: Iterable[Example],
        tokenizer: PieceTokenizer,
        keys: Sequence[FieldKey],
        max_length: int,
        truncate: Truncate,
        folder: Path | None = None,
    ) -> TokenStore:
        """Tokenise all rows. With ``folder`` the ids go to files there and are mapped, not held."""
        lengths: dict[FieldKey, list[IntArray]] = {key: [np.zeros(1, np.int64)] for key in keys}
        held: dict[FieldKey, list[IntArray]] = {key: [] for key in keys}
        paths = {key: folder / f"field-{index}.int32" for index, key in enumerate(keys)} if folder else {}
        files = {key: path.open("wb") for key, path in paths.items()}
        try:
            rows_left = iter(examples)
            while chunk := list(islice(rows_left, CHUNK)):
                for key in keys:
                    ids = tokenizer.encode([key.text(example.fields) for example in chunk], key.glue)
                    rows = [shorten(np.array(row, np.int32), max_length, truncate) for row in ids]
                    lengths[key].append(np.array([len(row) for row in rows], np.int64))
                    block = np.concatenate(rows) if rows else np.zeros(0, np.int32)
                    if folder:
                        block.tofile(files[key])
                    else:
                        held[key].append(block)
        finally:
            for file in files.values():
                file.close()
        offsets = {key: np.cumsum(np.concatenate(parts)) for key, parts in lengths.items()}
        flat = {key: _flat(held[key], paths.get(key)) for key in keys}
        return cls(flat, offsets)

    def row(self, index: int) -> dict[FieldKey, IntArray]:
        """Return the token ids of one row by field key."""
        return {key: self._flat[key][bounds[index] : bounds[index + 1]] for key, bounds in self._offsets.items()}

    def lengths(self, key: FieldKey) -> np.ndarray:
        """Return the (clipped) token count of every row, shape ``(rows,)``."""
        return np.diff(self._offsets[key])

    def __iter__(self) -> Iterator[dict[FieldKey, IntArray]]:
        return (self.row(index) for index in range(self.rows))


def _flat(blocks: list[IntArray], path: Path | None) -> IntArray:
    if path is None:
        return np.concatenate(blocks) if blocks else np.zeros(0, np.int32)
    # An empty file cannot be mapped.
    return np.memmap(path, np.int32, mode="r") if path.stat().st_size else np.zeros(0, np.int32)
