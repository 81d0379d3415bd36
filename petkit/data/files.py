"""Data files as bytes and as text; those that end with .gz or .zst are unpacked as they are read, within a cap."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

from petkit import limits
from petkit.errors import BeyondLimit, Problem
from petkit.formatting import binary_size

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a compressed file; more than text can shrink to its size are refused."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path, self._taken = path, 0
        self._most = max(limits.PARQUET_UNPACKED, limits.PARQUET_FOLD * path.stat().st_size)
        self._stream = pa.input_stream(str(path), compression=COMPRESSIONS[path.suffix.lower()])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(len(buffer))
        self._taken += len(chunk)
        if self._taken > self._most:
            message = f"unpacks to more than {binary_size(self._most)}"
            raise BeyondLimit([Problem.of_file(self._path, message, "no text shrinks that much")])
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a data file as bytes, unpacked."""
    if path.suffix.lower() not in COMPRESSIONS:
        return path.open("rb")
    return io.BufferedReader(_Unpacked(path), limits.ROW_BYTES // 16)


def open_text(path: Path, newline: str | None = None) -> IO[str]:
    """Open a data file as UTF-8 text, unpacked, without its byte order mark; ``newline`` as in :func:`open`."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline=newline)


def open_table(path: Path) -> IO[str]:
    r"""Open a CSV or TSV file as text: its lines end with ``\n``, or with ``\r`` where the first one does (old Macs)."""
    with open_text(path, newline="") as stream:
        first = stream.readline(limits.ROW_BYTES)
    return open_text(path, newline="" if first.endswith("\r") else "\n")
