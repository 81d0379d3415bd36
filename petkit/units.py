"""Times and sizes as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def size(count: int) -> str:
    """Return bytes as people say them, such as those of a disk: decimal units, two digits or so."""
    for unit, of in (("GB", 10**9), ("MB", 10**6)):
        if count >= of:
            return f"{count / of:.1f} {unit}" if count < 10 * of else f"{count / of:.0f} {unit}"
    return f"{count / 1000:.0f} kB"


def binary_size(count: int) -> str:
    """Return bytes as caps on input are written, in powers of two: ``4 MiB``, ``300 bytes``."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:,.3g} {name}" if count < 1000 * unit else f"{count // unit:,} {name}"
    return f"{count:,} bytes"
