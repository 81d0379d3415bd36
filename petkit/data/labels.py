"""What a cell of labels says: the one place where a value of a file becomes labels, for every command.

A label is written as its name or, where ``data.label_names`` is given, as its class number; a whole float (``1.0``, as pandas
writes a column with gaps) is its number, and true and false are the labels of that name in any case. A list of one is that
label, ``{"choices": […]}`` (Label Studio) is its list, and text may contain a JSON list. Null, NaN, blanks and, where a row has
one label, an empty list are missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from petkit.config.rules import LONGEST_NUMBER
from petkit.data.cells import is_missing
from petkit.errors import did_you_mean

_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_TRUTH = ("true", "false")
_LISTED_LABELS = 4_000  # characters of a cell that may be a list in JSON


class NotLabels(Exception):
    """A cell that cannot be read as labels: what is wrong, a hint if one is known, and the unknown label if that is it."""

    def __init__(self, message: str, hint: str = "", unknown: str | None = None, cell: Any = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.unknown, self.cell = message, hint, unknown, cell


@dataclass(frozen=True)
class LabelReader:
    """How the cells of a task's labels are read.

    Attributes:
        labels: the known ones; None: any, and they are read as they are written.
        names: the label of each class number.
        multi: whether a row has any number of labels.
        separator: between several labels in text.
        of_model: whether a finished model has these labels, and not a verbalizer.
    """

    labels: Sequence[str] | None
    names: Sequence[str] | None = None
    multi: bool = False
    separator: str = "|"
    of_model: bool = False

    def read(self, value: Any) -> tuple[str, ...] | None:
        """Return the labels of a cell, exactly one unless there may be several; None where it has none.

        Raises:
            NotLabels: the cell contains something else, or labels that are not known.
        """
        if is_missing(value):
            return None
        if isinstance(value, str) and not value.strip():
            return () if self.multi else None
        written = self._written(value)
        if not written and not self.multi:
            return None
        if len(written) > 1 and not self.multi:
            raise NotLabels(f"contains several labels: {value!r:.60}", "set label_kind: multi")
        found: dict[str, None] = {}
        for entry in written:
            if not isinstance(entry, (str, int)) and not _is_whole(entry):
                raise NotLabels(f"a label is text or a whole number, not {entry!r:.60}")
            label = self._name(entry)
            if label is None:
                shown = _spellings(entry)[-1]
                where = "is not a label of the model" if self.of_model else "is not in the verbalizer"
                raise NotLabels(f"label {shown!r:.80} {where}", unknown=shown, cell=value)
            if label in found:
                raise NotLabels(f"label {label!r:.80} is twice in the row", "name it once")
            found[label] = None
        return tuple(found)

    def advice(self, mistake: NotLabels) -> str:
        """Return the hint for a mistake; comparing names takes its time."""
        unknown, known = mistake.unknown, self.labels or ()
        if mistake.hint or unknown is None:
            return mistake.hint
        if _WHOLE.sub(r"\1", unknown).isdecimal() and self.names is not None:
            return f"class numbers go from 0 to {len(self.names) - 1}"
        if _WHOLE.sub(r"\1", unknown).isdecimal() and not self.of_model and not any(map(str.isdecimal, known)):
            return "class numbers need data.label_names"
        contained = [label for label in known if label in unknown] if self.multi and mistake.cell == unknown else []
        if len(contained) > 1:
            return (
                f"several labels are written {self.separator.join(contained[:2])}; data.label_separator sets what is between them"
            )
        return did_you_mean(unknown, list(known))

    def _written(self, value: Any) -> Sequence[Any]:
        """Return the labels of a cell as written. With one label a row, text is taken apart only to show that it has several."""
        if isinstance(value, dict) and list(value) == ["choices"]:
            value = value["choices"]
        if isinstance(value, (list, tuple)):
            return value
        if not isinstance(value, str) or (self.labels is not None and self._name(value) is not None):
            return [value]
        if value.lstrip().startswith(("[", "{")) and len(value) <= _LISTED_LABELS:
            inside = _from_json(value)
            if isinstance(inside, list) or (isinstance(inside, dict) and list(inside) == ["choices"]):
                return self._written(inside)
        parts = [part.strip() for part in value.split(self.separator)]
        several = self.labels is not None and len(parts) > 1 and all(self._name(part) is not None for part in parts)
        return parts if self.multi or several else [value]

    def _name(self, entry: str | float) -> str | None:
        """Return the label that is written as ``entry``, its name or class number; None if there is none."""
        spellings = _spellings(entry)
        if self.labels is None:
            return spellings[-1] if spellings[-1].strip() else None
        for spelling in spellings:
            if self.names is not None and spelling.isdecimal() and len(spelling) < LONGEST_NUMBER:
                number = int(spelling)
                spelling = self.names[number] if number < len(self.names) else spelling
            if spelling in self._known:
                return spelling
        truth = [label for label in self._truths if label.lower() == spellings[0].lower()]
        return truth[0] if len(truth) == 1 else None

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.labels or ())

    @cached_property
    def _truths(self) -> tuple[str, ...]:
        """The labels that are called true or false."""
        return tuple(label for label in self.labels or () if label.lower() in _TRUTH)


def alike(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of labels that differ only in case or blanks, each with the first such label."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(" ".join(label.split()).lower(), label), label) for label in labels]
    return [(one, other) for one, other in pairs if one != other]


def _is_whole(entry: Any) -> bool:
    return isinstance(entry, float) and entry.is_integer()


def _spellings(entry: str | float) -> tuple[str, ...]:
    """Return how a label may be called that is written as ``entry``: as it stands first, as a whole number last."""
    if isinstance(entry, bool):
        return (str(entry).lower(),)
    text = entry if isinstance(entry, str) else str(entry) if isinstance(entry, int) else f"{entry:.1f}"
    whole = _WHOLE.fullmatch(text)
    return (text, whole[1]) if whole else (text,)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
