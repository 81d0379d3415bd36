"""Where a command may write a file that the user names: never over what it reads, and over other files only with ``--force``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from petkit.errors import InvalidInput, Problem
from petkit.storage.regular_file import other_kind

_LOOP = "it is a link to itself"


def destination(path: Path, *, force: bool, inputs: Iterable[os.stat_result] = (), key: str = "") -> Path:
    """Return the file to write, links followed; refuse one that is there or cannot be written, before the work for it.

    Args:
        force: an existing file may be replaced, unless it is one of the ``inputs``.
        key: the option that names the file, for messages.
    """

    def refused(message: str, hint: str = "") -> InvalidInput:
        return InvalidInput([Problem.of_file(path, message, hint, key=key)])

    try:
        target = path.resolve()
        if path.is_dir():
            raise refused("is a folder", "name a file in it")
        if not target.parent.is_dir():
            raise refused("is in a folder that does not exist", "make the folder first")
        if target.exists():
            if kind := other_kind(target):
                raise refused(f"is {kind}, not a file", "name a file")
            if any(os.path.samestat(target.stat(), source) for source in inputs):
                raise refused("is a file that the command reads", "choose another file")
            if not force:
                raise refused("already exists", "choose another file, or overwrite it with --force")
        elif target.lstat():  # a name that is too long is refused here
            raise RuntimeError(_LOOP)
    except FileNotFoundError:
        pass
    except RuntimeError:
        raise refused(f"cannot be written: {_LOOP}") from None
    except (OSError, ValueError) as error:  # a name that no file can have
        raise refused(f"cannot be written: {getattr(error, 'strerror', None) or error}") from None
    if not os.access(target.parent, os.W_OK):
        raise refused("cannot be written: Permission denied")
    return target


def identities(*sources: str | Path | IO[Any] | None) -> list[os.stat_result]:
    """Return what identifies files, regardless of their names: by name or as an open stream; those that are not there are left out."""
    found = []
    for source in sources:
        try:
            found += [] if source is None else [os.stat(source if isinstance(source, (str, Path)) else source.fileno())]  # noqa: PTH116
        except (OSError, ValueError):
            continue
    return [entry for entry in found if stat.S_ISREG(entry.st_mode)]
