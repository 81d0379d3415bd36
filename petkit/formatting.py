"""Characters that do something where they should only show: they steer a terminal, break a line or turn its direction.

Labels, texts, paths and messages come from data, models and libraries; they are escaped wherever they are printed.
"""

from __future__ import annotations

import re

# C0 (but tab and line feed), delete and C1; marks and overrides of direction, rare line breaks; halves of characters.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Return ``text`` with characters that act written out, as ``\x1b`` or ``\u202e``; tabs and line feeds stay."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def in_one_line(text: str) -> str:
    r"""Return ``text`` as :func:`visible` does, line feeds written out too."""
    return visible(text).replace("\n", r"\n")


def visible_json(text: str) -> str:
    r"""Return JSON with characters that act as ``\u001b``: another spelling of the same values."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
