"""What can go wrong: every error a user can cause is a :class:`PetkitError`, defined here or with what raises it.

The command line prints its text and leaves with its ``exit_code``; a Python caller catches the class it cares about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from petkit import limits
from petkit.formatting import hidden_difference, in_one_line


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in the user's input, printed as ``file:line: key: message (hint)``."""

    file: str
    line: int | None
    key: str
    message: str
    hint: str = ""

    @classmethod
    def of_file(cls, file: str | Path, message: str, hint: str = "", *, line: int | None = None, key: str = "") -> Problem:
        """Return a problem of a file: a path, or its name as shown."""
        return cls(shown_path(file) if isinstance(file, Path) else file, line, key, message, hint)

    @classmethod
    def of_option(cls, option: str, message: str, hint: str = "") -> Problem:
        """Return a problem of a command-line option, of what no file contains, or (empty) of a command as a whole."""
        return cls("", None, option, message, hint)

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [shortened(part) for part in (place, self.key, self.message) if part]
        return in_one_line(": ".join(parts) + (f" ({shortened(self.hint)})" if self.hint else ""))


class PetkitError(Exception):
    """Base of everything a user can cause; ``str(error)`` is the whole message."""

    exit_code = 2


class InvalidInput(PetkitError):
    """One or more mistakes in what the user wrote; nothing has been written."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(dict.fromkeys(problems))
        shown = [str(problem) for problem in self.problems[: limits.SHOWN_PROBLEMS]]
        left = len(self.problems) - len(shown)
        super().__init__("\n".join([*shown, f"… and {left:,} more mistakes"] if left else shown))


class BeyondLimit(InvalidInput):
    """Input larger than its cap (:mod:`petkit.limits`), or a pipe or device; reported alone, before the rest is read."""


class RunConflict(PetkitError):
    """The run folder is locked by another process or was made with other settings."""


class ModelRefused(PetkitError):
    """A model cannot be used: missing, unsafe, without a masked-LM head or without a mask token."""


class IncompleteRun(PetkitError):
    """A stage or command needs finished steps that the run folder does not hold."""


class DiskRefused(PetkitError):
    """The disk takes no more: it is full, read-only or broken. What is finished is kept."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def split_hint(text: str) -> tuple[str, str]:
    """Return a message and the hint in parentheses at its end.

    >>> split_hint("names no labels (write them (all) down)")
    ('names no labels', 'write them (all) down')
    >>> split_hint("f(x)")
    ('f(x)', '')
    """
    depth = 0
    for start in range(len(text) - 1, -1, -1):
        depth += (text[start] == ")") - (text[start] == "(")
        if depth == 0:
            break
    else:
        return text, ""
    return (text[: start - 1], text[start + 1 : -1]) if text.endswith(")") and text[start - 1 : start] == " " else (text, "")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the hint for a misspelt ``word``: the nearest of ``known``, or the list of them."""
    compared = known[: limits.COMPARED_NAMES] if len(word) <= limits.COMPARED_CHARACTERS else ()
    same = next(((name, how) for name in compared if (how := hidden_difference(word, name))), None)
    if same is not None:
        return f"{same[0]!r} looks the same and differs in {same[1]}"
    near = get_close_matches(word, compared, n=1, cutoff=0.6) if compared else []
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {listed(known)}" if known else ""


def listed(names: Sequence[str]) -> str:
    """Return ``names`` in one line; of many only the first."""
    shown = [shortened(name, 60) for name in names[: limits.SHOWN_NAMES]]
    left = len(names) - len(shown)
    return ", ".join(shown) + (f" … and {left:,} more" if left else "")


def shortened(text: str, most: int = limits.SHOWN_CHARACTERS) -> str:
    """Return ``text``, or how it begins and how long it is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def shown_path(path: str | Path) -> str:
    """Return ``path`` as a person wants to read it, in one line: relative to the current folder if inside it."""
    try:
        named = Path(path)  # a link is shown by its own name
        whole = named.resolve() if named.name in ("", "..") else named.parent.resolve() / named.name
        shown = str(whole.relative_to(Path.cwd()))
        return in_one_line(str(path) if shown == "." else shown)
    except (ValueError, OSError, RuntimeError):  # elsewhere, a loop of links, no current folder
        return in_one_line(str(path))
