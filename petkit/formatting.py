"""How numbers and text are shown: times and sizes as people say them, and no character that acts where it should only show.

Such characters steer a terminal, break a line or turn its direction. Labels, texts, paths and messages come from data,
models and libraries; they are escaped wherever they are printed.
"""

from __future__ import annotations

import re
import unicodedata

# C0 (but tab and line feed), delete and C1; marks and overrides of direction, rare line breaks, spaces without width; halves
# of characters.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]")


# Soft hyphens, spaces and joiners without width, marks of direction, the byte order mark.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u2060-\u2064\ufeff]")


def visible(text: str) -> str:
    r"""Return ``text`` with characters that act written out, as ``\x1b`` or ``\u202e``; tabs and line feeds stay."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def in_one_line(text: str) -> str:
    r"""Return ``text`` as :func:`visible` does, line feeds written out too."""
    return visible(text).replace("\n", r"\n")


def visible_json(text: str) -> str:
    r"""Return JSON with characters that act as ``\u001b``: another spelling of the same values."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def hidden_difference(one: str, other: str) -> str:
    """Return in what two names differ that look the same; empty if they are equal, or differ visibly."""
    if one.isascii() and other.isascii():
        return ""
    seen = {unicodedata.normalize("NFC", _UNSEEN.sub("", name).replace("\u00a0", " ")) for name in (one, other)}
    if one == other or len(seen) > 1:
        return ""
    marks = [mark for mark in sorted({*one} ^ {*other}) if _UNSEEN.match(mark) or mark == "\u00a0"]
    codes = ", ".join(f"U+{ord(mark):04X}" for mark in marks)
    return f"an invisible character ({codes})" if marks else "its Unicode form (NFC or NFD)"


def counted(number: int, name: str) -> str:
    """Return a number with the name of what it counts: ``1 step``, ``1,000 steps``."""
    return f"{number:,} {name}{'s' if number != 1 else ''}"


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
