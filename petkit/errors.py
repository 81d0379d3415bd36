"""What can go wrong, told to a person: the error tree, with exit codes and cures.

Every error a user can cause is a :class:`PetkitError`. The command line prints its text and leaves
with its ``exit_code``; a Python caller catches the class it cares about.

    PetkitError
    ├── InvalidInput     files, keys or values that must be mended (all of them, in one report)
    ├── RunConflict      the run folder is in use, or holds work made by other settings
    ├── ModelRefused     a model folder or hub name that petkit cannot or will not load
    ├── IncompleteRun    a stage was asked for whose inputs are not finished
    └── TrainingDiverged (petkit.lm.training), NotFinite (petkit.lm.inference): settings that spoil a model; exit code 1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

# What would break a message's line, steer a terminal, or be no character at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in the user's input, printed as one line: ``file:line: key: message (cure)``."""

    file: str
    line: int | None
    key: str
    message: str
    cure: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [part for part in (place, self.key, self.message) if part]
        told = ": ".join(parts) + (f" ({self.cure})" if self.cure else "")
        return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], told)


class PetkitError(Exception):
    """Base of everything a user can cause; ``str(error)`` is the whole message."""

    exit_code = 2


class InvalidInput(PetkitError):
    """One or more mistakes in what the user wrote; nothing has been written."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


class RunConflict(PetkitError):
    """The run folder is locked by another process or was made by other settings."""


class ModelRefused(PetkitError):
    """A model cannot be used: missing, unsafe, without a masked-LM head or without a mask token."""


class IncompleteRun(PetkitError):
    """A stage or command needs finished steps that the run folder does not hold."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the cure for a misspelt ``word``: the nearest of ``known``, or the whole list."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if known else ""


def shown_path(path: str | Path) -> str:
    """Return ``path`` as a person wants to read it: relative to the current folder if inside it."""
    try:
        shown = str(Path(path).resolve().relative_to(Path.cwd()))
        return str(path) if shown == "." else shown
    except ValueError:
        return str(path)
