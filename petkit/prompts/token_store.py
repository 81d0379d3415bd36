"""Token ids of many rows, tokenised once and read at random: flat arrays, on disk when there are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petkit.data.chunks import CHUNK, chunks
from petkit.data.examples import Example
from petkit.prompts.legibility import Legibility, LegibilityCount
from petkit.prompts.long_texts import used_tokens
from petkit.prompts.pattern import FieldKey, Truncate, shorten
from petkit.prompts.tokenizer import IntArray, PieceTokenizer
from petkit.storage.row_array import RowArray


@dataclass(frozen=True, eq=False)
class TokenStore:
    """The field tokens of every row of a source, for one tokenizer, clipped to as many as a pattern can use.

    Attributes:
        legibility: what the tokenizer made of the texts; None where nothing is unknown to it.
    """

    _flat: Mapping[FieldKey, RowArray]  # the ids of all rows behind each other
    _offsets: Mapping[FieldKey, RowArray]  # where each row begins among them, and at last where all end
    legibility: Legibility | None = None

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(next(iter(self._offsets.values()))) - 1 if self._offsets else 0

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
        """Tokenise all rows. With ``folder`` everything goes to files there and is not held."""
        flat, offsets = {}, {}
        for index, key in enumerate(keys):
            flat[key] = RowArray(np.int32, path=folder and folder / f"field-{index}.int32")
            offsets[key] = RowArray(np.int64, path=folder and folder / f"field-{index}.offsets")
            offsets[key].append(np.zeros(1))
        count = None if tokenizer.unknown_id is None else LegibilityCount(tokenizer.unknown_id, keys)
        for chunk in chunks(examples, lambda example: sum(map(len, example.fields.values()))):
            tokens: dict[FieldKey, list[IntArray]] = {}
            for key in keys:
                ids = used_tokens([key.text(example.fields) for example in chunk], key, tokenizer, max_length, truncate)
                tokens[key] = rows = [shorten(np.array(row, np.int32), max_length, truncate) for row in ids]
                offsets[key].append(len(flat[key]) + np.cumsum([len(row) for row in rows]))
                flat[key].append(np.concatenate(rows))
            if count is not None:
                count.add(chunk, tokens)
        return cls(flat, offsets, None if count is None else count.result())

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> list[dict[FieldKey, IntArray]]:
        """Return the token ids of some rows by field key; much faster than one by one where they lie on disk."""
        numbers = np.asarray(rows, np.int64)
        taken: list[dict[FieldKey, IntArray]] = [{} for _ in numbers]
        for key, offsets in self._offsets.items():
            flat, bounds = self._flat[key].whole(), offsets.whole()
            for row, start, stop in zip(taken, bounds[numbers], bounds[numbers + 1], strict=True):
                row[key] = flat[start:stop].copy()
        return taken

    def row(self, index: int) -> dict[FieldKey, IntArray]:
        """Return the token ids of one row by field key."""
        return self.take([index])[0]

    def row_lengths(self, keys: Sequence[FieldKey], rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return how many tokens some rows (default: all) have in these fields together, shape ``(rows,)``."""
        rows = np.arange(self.rows) if rows is None else rows
        counts = np.zeros(len(rows), np.int64)
        for bounds in (self._offsets[key].whole() for key in keys):
            counts += bounds[rows + 1] - bounds[rows]
        return counts

    def __iter__(self) -> Iterator[dict[FieldKey, IntArray]]:
        for start in range(0, self.rows, CHUNK):
            yield from self.take(range(start, min(start + CHUNK, self.rows)))
