"""The tokenised parts of a task's data, each built once; large ones are stored in a scratch folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from petkit.prompts.token_store import TokenStore
from petkit.storage.row_array import HELD_ROWS


class TokenStores:
    """Token stores by part of the data and tokenizer, shared by a task and its narrowed copies.

    Args:
        scratch: folder for the arrays of large parts; None keeps everything in memory.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self.scratch = scratch
        self._built: dict[str, TokenStore] = {}

    def folder(self, name: str, rows: int) -> Path | None:
        """Return a scratch folder for an array with one entry per row; None where the rows fit in memory."""
        return self.scratch / name if self.scratch is not None and rows > HELD_ROWS else None

    def get(self, name: str, rows: int, build: Callable[[Path | None], TokenStore]) -> TokenStore:
        """Return the store of this name; ``build`` is called with its folder the first time."""
        if name not in self._built:
            self._built[name] = build(self.folder(name, rows))
        return self._built[name]
