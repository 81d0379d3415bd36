"""Refusal of pipes, sockets and devices where a file is expected: reading them might never end."""

from __future__ import annotations

import stat
from pathlib import Path

from petkit.errors import BeyondLimit, InvalidInput, Problem, shown_path

_OTHER_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def refuse_no_file(path: Path) -> None:
    """Make sure that ``path`` is a regular file, without opening it.

    Raises:
        InvalidInput: no such file, a folder, or no permission.
        BeyondLimit: a pipe, socket or device.
    """
    shown = shown_path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: an impossible name
        raise InvalidInput([Problem.of_file(shown, "no such file")]) from error
    except OSError as error:
        raise InvalidInput([Problem.of_file(shown, f"cannot be read: {error.strerror}")]) from error
    if stat.S_ISDIR(mode):
        raise InvalidInput([Problem.of_file(shown, "is a folder, not a file")])
    for is_kind, name in _OTHER_KINDS:
        if is_kind(mode):
            raise BeyondLimit([Problem.of_file(shown, f"is {name}, not a file", "save what it gives in a file")])
