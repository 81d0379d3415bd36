"""Refusal of pipes, sockets and devices where a file is expected: reading them might never end."""

from __future__ import annotations

import stat
from pathlib import Path

from petkit.errors import BeyondLimit, InvalidInput, Problem, shown_path

_OTHER_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def other_kind(path: Path) -> str:
    """Return what is at ``path`` if it is neither a regular file nor a folder: a pipe, a socket or a device; else nothing."""
    return _OTHER_KINDS.get(stat.S_IFMT(path.stat().st_mode), "")


def refuse_no_file(path: Path) -> None:
    """Make sure that ``path`` is a regular file, without opening it."""
    shown = shown_path(path)
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: an impossible name
        raise InvalidInput([Problem.of_file(shown, "no such file")]) from error
    except OSError as error:
        raise InvalidInput([Problem.of_file(shown, f"cannot be read: {error.strerror}")]) from error
    if kind == stat.S_IFDIR:
        raise InvalidInput([Problem.of_file(shown, "is a folder, not a file")])
    if kind in _OTHER_KINDS:
        raise BeyondLimit([Problem.of_file(shown, f"is {_OTHER_KINDS[kind]}, not a file", "save what it gives in a file")])
