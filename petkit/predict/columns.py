"""The columns of predictions: those of the input, as they were read, then the predictions; and what a cell of a table may be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from petkit.data.cells import LONE_SURROGATE, SURROGATE, is_missing
from petkit.data.examples import Example
from petkit.data.precheck import STANDARD_INPUT
from petkit.ensemble import LabelKind
from petkit.errors import InvalidInput, Problem, did_you_mean, listed
from petkit.formatting import counted
from petkit.predict.predictor import Prediction, Predictor

# What spreadsheets begin a formula with, in either width, and what they skip before one (OWASP, "CSV Injection").
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]+)*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BREAKS = re.compile("[\t\r\n]")


class OutputColumns:
    """The columns of an output.

    An input column with the name of a predicted one is called ``input_<name>``. Rows that have no id get one.

    Attributes:
        kind: jsonl, csv or tsv.
        wanted: the input columns to write; None: all.
        predicted: the names of the predicted columns.
        names: column before the predicted ones → its name in the output, in order; without ``complete``, as far as rows were read.
        complete: whether no more are added.
        source: how the input is called in messages.
        notes: what to know about how the input was read.
    """

    def __init__(
        self, predictor: Predictor, kind: str, wanted: Sequence[str] | None = None, source: str = STANDARD_INPUT
    ) -> None:
        self.kind, self.wanted, self.source = kind, wanted, source
        self.names: dict[str, str] = {}
        self.notes: Sequence[str] = ()
        self.complete = False
        self._predictor = predictor
        self._multi = predictor.decision.kind.multi
        self._id, self._label = predictor.column("id"), predictor.column("label")
        scale = ["expected"] if predictor.decision.kind is LabelKind.ORDINAL else []
        each = ["probabilities"] if kind == "jsonl" else [f"p({label})" for label in predictor.labels]
        number = [] if predictor.candidates is None else ["candidate"]
        self.predicted = ("label", *number, "probability", *scale, *each)
        if kind == "tsv" and any(map(_BREAKS.search, predictor.labels)):
            raise InvalidInput([Problem.of_option("--output", "a label contains a tab or a line break", "write csv or jsonl")])

    @property
    def renamed(self) -> dict[str, str]:
        """Input column → its other name in the output."""
        return {column: name for column, name in self.names.items() if name != column}

    def remarks(self, rows: int, empty: int) -> Iterator[str]:
        """Yield what to know about an output of so many rows, of which some had no text."""
        yield from self.notes
        if not rows:
            yield f"{self.source}: contains no rows"
        if empty:
            yield f"{self.source}: {counted(empty, 'row')} without text: no label"
        if self.renamed:
            others = [f"{column} is {name}" for column, name in self.renamed.items()]
            yield f"{self.source}: columns with the name of a predicted one are renamed: {listed(others)}"

    def add(self, columns: Collection[str]) -> None:
        """Name columns of the input that are not named yet."""
        new = [column for column in columns if column not in self.names]
        taken = {*self.predicted, *self.names.values()}
        for column in new:
            name = column
            while name in taken or (name != column and name in columns):
                name = f"input_{name}"
            self.names[column] = name
            taken.add(name)

    def begin(self, first: Example) -> None:
        """Take the columns of the first row of an input that is read once; refuse wanted ones that it does not have."""
        self.add(self._values(first))
        if self.wanted is not None:
            self.finish(list(self._all_values(first)), f"the first row of {self.source}")

    def finish(self, known: Sequence[str], place: str = "") -> None:
        """Close the list of columns; refuse wanted ones that the input does not have (rows have an id in any case)."""
        missing = [column for column in self.wanted or () if column not in self.names and column != self._id]
        if missing:
            raise InvalidInput(
                Problem.of_option("--columns", f"{place or self.source} has no column {name!r}", did_you_mean(name, known))
                for name in missing
            )
        self._add_id()
        if self.wanted is not None:
            chosen = self.wanted if self._id in self.wanted else [self._id, *self.wanted]
            self.names = {column: self.names[column] for column in chosen}
        self.complete = True

    def _add_id(self) -> None:
        """Put a column of ids first, where the input has none."""
        if self._id not in self.names:
            self.add([self._id])
            self.names = {self._id: self.names[self._id], **self.names}

    def of(self, example: Example) -> Iterator[tuple[str, Any]]:
        """Yield the name and value of every column of a row."""
        values = self._values(example)
        if not self.complete:
            self.add(values)
            self._add_id()
        for column, name in self.names.items():
            if column == self._id and is_missing(values.get(column)):
                yield name, example.id
            elif column in values:
                yield name, values[column]

    def header(self, example: Example | None = None) -> list[str]:
        """Return the names of a table's columns before the predicted ones, from its first row if others are not known."""
        if not self.complete:
            fields = list(map(self._predictor.column, self._predictor.read_fields))
            self.add((fields if self.wanted is None else self.wanted) if example is None else self._values(example))
            self._add_id()
        return [name if name in self._plain else table_cell(name) for name in self.names.values()]

    def cells(self, example: Example) -> Iterator[tuple[Any, bool]]:
        """Yield the value of every column of a table, and whether it is written as it is: an id or a label."""
        found = dict(self.of(example))
        for column, name in self.names.items():
            value = found.get(name)
            yield value, column == self._id or (column == self._label and self._is_label(value))

    def labels(self, prediction: Prediction) -> str:
        """Return the labels of a row for one cell: as a list in JSON where the separator would not tell them apart."""
        separator = self._predictor.label_separator
        odd = any(separator in label or label != label.strip() or label.startswith("[") for label in prediction.labels)
        return json.dumps(prediction.labels, ensure_ascii=False) if self._multi and odd else prediction.label

    def problems(self, example: Example, header: Sequence[str] | None = None) -> list[Problem]:
        """Return why a row cannot be written in this format; ``header`` are the columns of a table that has begun."""
        if not self.complete:
            self.add(self._values(example))
        if self.kind == "jsonl":
            return []
        found = []
        if self.kind == "tsv" and self._predictor.candidates is not None:
            texts = self._predictor.candidates.texts(example.fields)
            if odd := next(filter(_BREAKS.search, texts), None):
                message = f"candidate {odd!r:.60} contains a tab or a line break, which TSV has no way to write"
                found.append(self._problem(example, self._predictor.candidates.columns[0], message))
        if header is not None and len(self.names) > len(header):
            name, hint = list(self.names)[-1], "write jsonl, or choose with --columns"
            found.append(Problem.of_file(self.source, "the first row has no such column", hint, line=example.line, key=name))
        for column, value in ({self._id: example.id} | self._values(example)).items():
            text = f"{column} {_as_text(value)}"
            if SURROGATE.search(text):
                found.append(self._problem(example, column, LONE_SURROGATE))
            elif self.kind == "tsv" and _BREAKS.search(text):
                found.append(self._problem(example, column, "contains a tab or a line break, which TSV has no way to write"))
        return found

    def _problem(self, example: Example, column: str, message: str) -> Problem:
        hint = "write jsonl" if message == LONE_SURROGATE else "write csv or jsonl"
        return Problem.of_file(self.source, message, hint, line=example.line, key=column)

    def _values(self, example: Example) -> dict[str, Any]:
        """Return the columns of a row that the output has."""
        values = self._all_values(example)
        return values if self.wanted is None else {name: values[name] for name in self.wanted if name in values}

    def _all_values(self, example: Example) -> dict[str, Any]:
        """Return the columns of a row; of a text on its own, the one it would be read from."""
        texts = {self._predictor.column(field): text for field, text in example.fields.items()}
        return texts if example.values is None else dict(example.values)

    @property
    def _plain(self) -> set[str]:
        """The columns that the model reads, whose names are its own."""
        fields = self._predictor.read_fields
        return {self._id, *fields, *map(self._predictor.column, fields)}

    def _is_label(self, value: Any) -> bool:
        """Say whether a cell contains labels that the model knows."""
        parts = value.split(self._predictor.label_separator) if isinstance(value, str) else []
        return value in self._predictor.labels or (bool(parts) and set(parts) <= set(self._predictor.labels))


def json_value(value: Any) -> Any:
    """Return a value as JSON can have it: NaN and infinity are null, dates and the like are text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): json_value(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(entry) for entry in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def table_cell(value: Any, *, exact: bool = False) -> str:
    """Return a cell; a text that a spreadsheet would execute gets an apostrophe before it, unless it is a number or ``exact``."""
    text = _as_text(value)
    guarded = not exact and not isinstance(value, (int, float)) and text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if guarded else text


def _as_text(value: Any) -> str:
    plain = json_value(value)
    if plain is None or isinstance(plain, str):
        return plain or ""
    return json.dumps(plain, ensure_ascii=False)
