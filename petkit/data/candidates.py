"""Candidate answers: the texts that a row's answer is one of, and which of them is right.

They are read from columns of their own, or from one column of lists. An example has each as a field (``choice1``, or
``options[0]``, ``options[1]``, …), so that they are hashed, tokenised and kept like all texts of a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from petkit import limits
from petkit.data.cells import LONE_SURROGATE, MISSING, SURROGATE, is_missing
from petkit.errors import listed
from petkit.formatting import counted

FEWEST = 2
NOT_A_LIST = "must be a list of texts"


class NotCandidates(Exception):
    """A cell that cannot be read as candidates, or as the right one of them: its column, what is wrong, and a hint."""

    def __init__(self, column: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.column, self.message, self.hint = column, message, hint


@dataclass(frozen=True)
class Candidates:
    """Where a task's rows have their candidates.

    Attributes:
        columns: one per candidate, by field name; or one column of lists, where ``listed``.
    """

    columns: tuple[str, ...]
    listed: bool = False

    @classmethod
    def of(cls, named: str | Sequence[str] | None) -> Candidates | None:
        """Return those that a verbalizer's ``candidates`` names; None where the task has fixed labels."""
        if named is None:
            return None
        return cls((named,), listed=True) if isinstance(named, str) else cls(tuple(named))

    def fields(self, count: int) -> tuple[str, ...]:
        """Return the field names of so many candidates.

        >>> Candidates(("options",), listed=True).fields(2), Candidates(("a", "b")).fields(2)
        (('options[0]', 'options[1]'), ('a', 'b'))
        """
        return tuple(f"{self.columns[0]}[{number}]" for number in range(count)) if self.listed else self.columns

    def fields_of(self, rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
        """Return the field names of as many candidates as any of these rows has."""
        return self.fields(max((len(self.texts(row)) for row in rows), default=0)) if self.listed else self.columns

    def texts(self, fields: Mapping[str, str]) -> list[str]:
        """Return the candidates of a row, given by its fields."""
        if not self.listed:
            return [fields[name] for name in self.columns]
        found: list[str] = []
        while (text := fields.get(f"{self.columns[0]}[{len(found)}]")) is not None:
            found.append(text)
        return found

    def read(self, values: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
        """Return the candidates of a row by field.

        Args:
            values: the row's cells by column.
            columns: those of the candidates, in the order of ``self.columns``.

        Raises:
            NotCandidates: there are none, or none to choose among.
        """
        for column in columns:
            if column not in values:
                raise NotCandidates(column, MISSING)
        if self.listed:
            fields = self._unfolded(columns[0], values[columns[0]])
        else:
            cells = [values[column] for column in columns]
            if wrong := [place for place, cell in enumerate(cells) if not is_missing(cell) and not isinstance(cell, str)]:
                raise NotCandidates(columns[wrong[0]], f"a candidate must be text, not {cells[wrong[0]]!r:.60}")
            fields = {name: "" if is_missing(cell) else cell for name, cell in zip(self.columns, cells, strict=True)}
        _refuse_no_choice(columns, list(fields.values()))
        return fields

    def _unfolded(self, column: str, value: Any) -> dict[str, str]:
        """Return the fields of a cell that is a list, which a table has in JSON."""
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise NotCandidates(column, "not a list in JSON") from None
        if hasattr(value, "tolist"):  # a column of lists in pandas holds arrays
            value = value.tolist()
        if is_missing(value) or value == "":
            raise NotCandidates(column, "has no candidates")
        if not isinstance(value, (list, tuple)):
            raise NotCandidates(column, NOT_A_LIST, "one column for each candidate is written candidates: [first, second]")
        for entry in value[: limits.CANDIDATES]:
            if not isinstance(entry, str):
                raise NotCandidates(column, f"a candidate must be text, not {entry!r:.60}")
        if len(value) > limits.CANDIDATES:
            raise NotCandidates(column, f"has {len(value):,} candidates; at most {limits.CANDIDATES}")
        return dict(zip(self.fields(len(value)), value, strict=True))


def _refuse_no_choice(columns: Sequence[str], texts: Sequence[str]) -> None:
    """Refuse candidates that are too few, and one that is empty or is there twice; each has its column, or all have one."""
    said = [" ".join(text.split()) for text in texts]
    if len(said) < FEWEST:
        raise NotCandidates(columns[0], f"has {counted(len(said), 'candidate')}; a choice needs at least two")
    numbers: dict[str, int] = {}
    for number, text in enumerate(said):
        column = columns[min(number, len(columns) - 1)]
        if not text:
            raise NotCandidates(column, f"candidate {number} is empty", "fill it in, or remove the row")
        if SURROGATE.search(text):
            raise NotCandidates(column, LONE_SURROGATE)
        if numbers.setdefault(text, number) != number:
            raise NotCandidates(column, f"candidate {number} is the same as candidate {numbers[text]}: {text!r:.80}", "keep one")


def right_candidates(column: str, value: Any, texts: Sequence[str]) -> tuple[int, ...] | None:
    """Return the numbers of the right candidates, rising: usually one; None where the cell is missing.

    A whole number counts from 0, and a text is that of a candidate; a list accepts any of its entries.

    Raises:
        NotCandidates: the cell is something else, or there is no such candidate.
    """
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    said = {" ".join(text.split()): number for number, text in enumerate(texts)}
    entries = _entries(value, said)
    if len(entries) == 0:
        return None
    return tuple(sorted({_number(column, entry, said) for entry in entries}))


def _entries(value: Any, said: Mapping[str, int]) -> Sequence[Any]:
    """Return the answers of a cell; a table has several as a list in JSON."""
    if isinstance(value, str) and value.lstrip().startswith("[") and " ".join(value.split()) not in said:
        try:
            inside = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
        return inside if isinstance(inside, list) else [value]
    return value if isinstance(value, (list, tuple)) else [value]


def _number(column: str, entry: Any, said: Mapping[str, int]) -> int:
    if isinstance(entry, str):
        text = " ".join(entry.split())
        if text in said:
            return said[text]
        if text.removeprefix("'") in said:  # as a table has a text that a spreadsheet would execute
            return said[text.removeprefix("'")]
        if not text.isdecimal() or len(text) > len(str(limits.CANDIDATES)):
            raise NotCandidates(column, f"{entry!r:.80} is none of the row's candidates", f"they are: {listed(list(said))}")
        entry = int(text)  # a table has numbers as text
    if isinstance(entry, float) and entry.is_integer():
        entry = int(entry)
    if isinstance(entry, bool) or not isinstance(entry, int):
        raise NotCandidates(column, f"must be the number of the right candidate, from 0, or its text, not {entry!r:.60}")
    if not 0 <= entry < len(said):
        raise NotCandidates(column, f"candidate {entry} is the right one, and the row has {len(said)}, counted from 0")
    return entry
