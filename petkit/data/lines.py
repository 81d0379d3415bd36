"""Lines of a text, none held whole that is longer than a row may be."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, AnyStr

from petkit import limits
from petkit.units import binary_size

TOO_LONG = f"a row of more than {binary_size(limits.ROW_BYTES)} (split it into rows of their own, or fix the line breaks)"
CHUNK = 2**20


class RowTooLong(Exception):
    """A row goes on beyond its cap; its last line has not been read to the end."""


class BoundedLines(Iterator[AnyStr]):
    """The lines of a stream; a row may take several, and not more bytes than :data:`petkit.limits.ROW_BYTES` together.

    Attributes:
        number: of the last line, from 1.
        row: the number of the first line of the row.
    """

    def __init__(self, stream: IO[AnyStr]) -> None:
        self._stream: IO[AnyStr] = stream
        self.number = 0
        self.next_row()

    def next_row(self) -> None:
        """Let the next line begin a new row."""
        self.row = self.number + 1
        self._taken = 0

    def __next__(self) -> AnyStr:
        line: AnyStr = self._stream.readline(limits.ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._taken += len(line) if isinstance(line, bytes) or line.isascii() else len(line.encode("utf-8", "surrogatepass"))
        if self._taken > limits.ROW_BYTES:
            raise RowTooLong
        return line


def first_undecodable(path: Path) -> int:
    """Return the number of the first line of a file that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    with path.open("rb") as stream:
        for chunk in iter(partial(stream.read, CHUNK), b""):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return lines + error.object[: error.start].count(b"\n")
            lines += chunk.count(b"\n")
    return lines
