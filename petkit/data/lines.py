"""Lines of a text, none held whole that is longer than a row may be."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import IO, AnyStr

from petkit import limits
from petkit.errors import BeyondLimit, Problem
from petkit.units import binary_size

TOO_LONG = f"a row of more than {binary_size(limits.ROW_BYTES)} (split it into rows of their own, or fix the line breaks)"
_CHUNK = 2**20


class RowTooLong(Exception):
    """A row goes on beyond its cap."""


class BoundedLines(Iterator[AnyStr]):
    """The lines of a stream; a row may take several, and not more bytes than :data:`petkit.limits.ROW_BYTES` together.

    Attributes:
        number: of the last line, from 1.
    """

    def __init__(self, stream: IO[AnyStr]) -> None:
        self.number = 0
        self._stream: IO[AnyStr] = stream
        self._taken = 0

    def __next__(self) -> AnyStr:
        """Return the next line.

        Raises:
            RowTooLong: the row it belongs to is longer than its cap; the line has not been read to its end.
        """
        line: AnyStr = self._stream.readline(limits.ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._taken += len(line) if isinstance(line, bytes) or line.isascii() else len(line.encode("utf-8", "surrogatepass"))
        if self._taken > limits.ROW_BYTES:
            raise RowTooLong
        return line

    def next_row(self) -> None:
        """Say that the next line begins a new row."""
        self._taken = 0


def bounded_lines(stream: IO[bytes], shown: str) -> Iterator[bytes]:
    """Yield the lines of a stream that is called ``shown``; each is a row.

    Raises:
        BeyondLimit: a line is longer than a row may be.
    """
    lines = BoundedLines(stream)
    try:
        for line in lines:
            lines.next_row()
            yield line
    except RowTooLong:
        raise BeyondLimit([Problem.of_file(shown, TOO_LONG, line=lines.number)]) from None


def overlong_line(path: Path, within: int) -> int | None:
    """Return the number of the first line beyond the cap among the first ``within`` bytes of a file, or None."""
    lines = 1
    run = 0  # bytes of the line that goes on
    with path.open("rb") as stream:
        for _ in range(0, within, _CHUNK):
            chunk = stream.read(_CHUNK)
            breaks = [place for place in (chunk.find(b"\n"), chunk.find(b"\r")) if place >= 0]
            if run + min(breaks, default=len(chunk)) > limits.ROW_BYTES:
                return lines
            run = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) if breaks else run + len(chunk)
            lines += chunk.count(b"\n")
            if len(chunk) < _CHUNK:
                break
    return None


def first_undecodable(path: Path) -> int:
    """Return the number of the first line of a file that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(_CHUNK)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return lines + error.object[: error.start].count(b"\n")
            lines += chunk.count(b"\n")
            if not chunk:
                return lines
