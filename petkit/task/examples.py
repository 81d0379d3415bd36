"""Data rows as examples: checked texts, a label index and a stable id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from petkit.errors import InvalidInput, Problem, did_you_mean, shown_path
from petkit.spec.schema import DataSpec
from petkit.task.records import Record, class_names, read_records

SHOWN_PROBLEMS = 20
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Example:
    """One row: its texts by field name, the index of its label (None: unlabelled) and where it stood."""

    id: str
    fields: dict[str, str]
    label: int | None
    line: int


@dataclass(frozen=True)
class Scan:
    """What one pass over a source found: size, content hash (of the fields and labels used) and mistakes."""

    rows: int
    sha256: str
    problems: tuple[Problem, ...]


class ExampleSource:
    """The rows of one file or dataset, read anew at every iteration; nothing is kept in memory.

    Args:
        source: path or ``hf://`` name.
        data: column mapping and class names.
        fields: the fields the patterns use, in order.
        labels: all labels in class order, or None to read no label.
    """

    def __init__(self, source: str, data: DataSpec, fields: Sequence[str], labels: Sequence[str] | None) -> None:
        self.source = source
        self.shown = source if source.startswith("hf://") else shown_path(source)
        self.data = data
        self.fields = tuple(fields)
        self.labels = None if labels is None else tuple(labels)
        self._label_index = {label: index for index, label in enumerate(labels or ())}

    def __iter__(self) -> Iterator[Example]:
        """Yield every row.

        Raises:
            InvalidInput: at the first bad row (``scan`` reports all of them).
        """
        for example, problems in self._checked():
            if example is None:
                raise InvalidInput(problems)
            yield example

    def unchanged(self, scan: Scan) -> Iterator[Example]:
        """Yield every row, and make sure at the end that they are the rows of an earlier scan.

        Raises:
            InvalidInput: the source has changed since.
        """
        digest = self._digest()
        for example in self:
            _add(digest, example)
            yield example
        if digest.hexdigest() != scan.sha256:
            raise InvalidInput([Problem(self.shown, None, "", "changed while petkit was working with it", "run again")])

    def scan(self) -> Scan:
        """Read everything once: count, hash and check. Shows the first 20 bad rows and counts the rest."""
        digest = self._digest()
        problems: list[Problem] = []
        rows = bad = 0
        try:
            for example, found in self._checked():
                rows += 1
                if example is not None:
                    _add(digest, example)
                    continue
                bad += 1
                if bad <= SHOWN_PROBLEMS:
                    problems += found
        except InvalidInput as error:
            problems += error.problems
        if bad > SHOWN_PROBLEMS:
            problems.append(Problem(self.shown, None, "", f"… and {bad - SHOWN_PROBLEMS:,} more rows like these"))
        if rows == 0 and not problems:
            problems.append(Problem(self.shown, None, "", "the file holds no rows"))
        return Scan(rows, digest.hexdigest(), tuple(problems))

    def columns(self) -> tuple[str, ...]:
        """Return the column names of the first row (empty for an empty file)."""
        return next((tuple(map(str, record.values)) for record in islice(read_records(self.source), 1)), ())

    def _digest(self) -> hashlib._Hash:
        return hashlib.sha256(repr((sorted(self.fields), self.labels)).encode())

    def _checked(self) -> Iterator[tuple[Example | None, list[Problem]]]:
        names = self.data.label_names
        if names is None and self.labels is not None:
            names = class_names(self.source, self.data.column("label"))
        for index, record in enumerate(read_records(self.source), 1):
            problems: list[Problem] = []
            if record.error:
                problems.append(Problem(self.shown, record.line, "", record.error))
                yield None, problems
                continue
            fields = {field: self._text(record, field, problems) for field in self.fields}
            label = None if self.labels is None else self._label(record, names, problems)
            if problems:
                yield None, problems
                continue
            own_id = record.values.get(self.data.column("id"))
            yield Example(f"row-{index}" if own_id is None else str(own_id), fields, label, record.line), problems

    def _text(self, record: Record, field: str, problems: list[Problem]) -> str:
        column = self.data.column(field)
        if column not in record.values:
            cure = did_you_mean(column, list(map(str, record.values)))
            problems.append(Problem(self.shown, record.line, column, "missing", cure))
            return ""
        value = record.values[column]
        if not isinstance(value, str):
            told = "empty" if value is None else f"must be text, not {value!r:.60}"
            problems.append(Problem(self.shown, record.line, column, told))
            return ""
        if _SURROGATE.search(value):
            problems.append(Problem(self.shown, record.line, column, "holds half a character (a lone surrogate)"))
        elif not value.strip():
            problems.append(Problem(self.shown, record.line, column, "empty", "remove the row or fill it in"))
        return value

    def _label(self, record: Record, names: Sequence[str] | None, problems: list[Problem]) -> int:
        column = self.data.column("label")
        value = record.values.get(column)
        if value is None or value == "":
            cure = "" if column in record.values else did_you_mean(column, list(map(str, record.values)))
            problems.append(Problem(self.shown, record.line, column, "has no label", cure))
            return -1
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            problems.append(Problem(self.shown, record.line, column, f"a label is text or a whole number, not {value!r:.60}"))
            return -1
        label = str(value)
        if label not in self._label_index and names is not None and label.isdecimal() and int(label) < len(names):
            label = names[int(label)]
        if label not in self._label_index:
            message = f"label {label!r:.80} is not in the verbalizer"
            problems.append(Problem(self.shown, record.line, column, message, did_you_mean(label, list(self.labels or ()))))
            return -1
        return self._label_index[label]


def _add(digest: hashlib._Hash, example: Example) -> None:
    """Hash what a row says, whatever the order in which patterns name its fields."""
    digest.update(repr((sorted(example.fields.items()), example.label)).encode("utf-8", "surrogatepass"))
