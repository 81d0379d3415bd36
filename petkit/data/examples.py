"""Data rows as examples: checked texts, label indices and a stable id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit import limits
from petkit.config.schema.pipeline import DataSpec
from petkit.data.candidates import NOT_A_LIST, Candidates, NotCandidates, right_candidates
from petkit.data.cells import LONE_SURROGATE, MISSING, SURROGATE, is_missing
from petkit.data.drawing import are_in, drawn_numbers
from petkit.data.groups import GroupNumbers, GroupReader, numbers_of
from petkit.data.labels import LabelReader, NotLabels
from petkit.data.records import TOO_LONG, Record, class_names, delimiter_note, read_records, table_kind
from petkit.errors import BeyondLimit, InvalidInput, Problem, did_you_mean, listed, shown_path

SHOWN_PROBLEMS = 20
NO_ROWS = "the file contains no rows"
_NO_LABEL = "has no label"
_EMPTY = "empty"
_WORDS_OF_A_NAME = 3  # a cell of more of them is a sentence, and not the name of a column
_SHOWN_LINES = 5
WHICH_COLUMN = "data.columns says which column is which"


@dataclass(frozen=True, slots=True)
class Example:
    """One row: its texts by field name, the indices of its labels, and where it was."""

    id: str
    fields: dict[str, str]
    label: int | None  # where it has one, and may not have several
    line: int
    several: tuple[int, ...] = ()  # in class order, where it may have several, or several answers are right
    values: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)  # its columns, where they are kept

    @property
    def labels(self) -> tuple[int, ...]:
        """The indices of all its labels, in class order."""
        return self.several if self.label is None else (self.label,)


def targets_of(examples: Sequence[Example], labels: int) -> NDArray[np.float32]:
    """Return 1 where a row has one of so many labels and 0 elsewhere, shape ``(rows, labels)``."""
    targets = np.zeros((len(examples), labels), np.float32)
    for row, example in enumerate(examples):
        targets[row, list(example.labels)] = 1
    return targets


@dataclass(frozen=True)
class Sample:
    """Some rows of a source, drawn at random: their numbers, rising, and the number and the hash of all rows."""

    numbers: NDArray[np.int64] = field(repr=False, compare=False)
    of: int
    sha256: str


@dataclass(frozen=True)
class Scan:
    """Result of one pass over a source: all of its rows, or, after :meth:`drawn`, a sample of them."""

    rows: int
    sha256: str  # of the fields and labels used
    problems: tuple[Problem, ...]
    columns: tuple[str, ...] = ()  # of the first row
    head: tuple[Example, ...] = field(default=(), repr=False, compare=False)  # valid, as many as were to be kept
    notes: tuple[str, ...] = ()  # what to know about the file, short of a mistake
    sample: Sample | None = None
    groups: GroupNumbers | None = field(default=None, repr=False, compare=False)  # of all rows, where they have groups
    candidates: int = 0  # of the row that has most of them, where rows have candidates

    @property
    def rows_of_source(self) -> int:
        """The number of all rows, drawn or not."""
        return self.rows if self.sample is None else self.sample.of

    def drawn(self, rows: int) -> Scan:
        """Return the scan of so many rows of the source, the same ones each time; of all where it has no more."""
        if rows >= self.rows:
            return self
        numbers = drawn_numbers(self.rows, rows)
        numbers = numbers if self.sample is None else self.sample.numbers[numbers]
        # The numbers are hashed too: other versions of numpy may draw others.
        sha256 = hashlib.sha256(self.sha256.encode() + numbers.astype("<i8").tobytes()).hexdigest()
        whole = self.sha256 if self.sample is None else self.sample.sha256
        return replace(self, rows=rows, sha256=sha256, sample=Sample(numbers, self.rows_of_source, whole))


@dataclass(slots=True)
class _Row:
    """A record and what is wrong with it; a search for near names on every row would take too long."""

    shown: str
    record: Record
    advises: bool
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, column: str, message: str, hint: str = "") -> tuple[()]:
        """Add a problem; return the empty tuple, in place of labels that cannot be read."""
        self.problems.append(Problem.of_file(self.shown, message, hint, line=self.record.line, key=column))
        return ()

    def near(self, word: str, known: Iterable[Any]) -> str:
        return did_you_mean(word, list(map(str, known))) if self.advises else ""


@dataclass(eq=False)
class ExampleSource:
    """The rows of one file or dataset, read again at every iteration; nothing is kept in memory."""

    source: str  # path or hf:// name
    data: DataSpec  # column mapping and class names
    fields: Sequence[str]  # those that the patterns use, in order
    labels: Sequence[str] | None  # all of them in class order, or None to read no label
    kind: str = "single"  # whether a row has one label or any number of them
    most_rows: int | None = None  # more are refused; None: any number
    keep: Collection[str] | None = ()  # columns that an example keeps as they were read; None: all
    blank: bool = False  # whether texts may be empty
    of_model: bool = False  # whether the labels are those of a finished model
    group: str | None = None  # column that says which rows belong together
    candidates: Candidates | None = None  # in place of fixed labels: which column has the right one is the label's

    def __post_init__(self) -> None:
        self.shown = self.source if self.source.startswith("hf://") else shown_path(self.source)
        self.skips_empty = (self.data.empty or ("skip" if self.labels is None else "refuse")) == "skip"
        self.empty = 0  # rows that were left out in the latest pass, and the lines of the first
        self.empty_lines: list[int] = []
        self.multi = self.kind == "multi" and self.labels is not None
        self.groups: GroupReader | None = None  # of the latest pass
        self.most_candidates = 0  # of a row in the latest pass
        self._label_index = {label: index for index, label in enumerate(self.labels or ())}

    def __iter__(self) -> Iterator[Example]:
        """Yield every row; refuse the first bad one (``scan`` reports all of them)."""
        for example, problems in self._checked(self._records()):
            if example is None:
                raise InvalidInput(problems)
            yield example

    def unchanged(self, scan: Scan) -> Iterator[Example]:
        """Yield every row, or those of the scan's sample, and make sure at the end that the source is as it was scanned."""
        digest, sample = self._digest(), scan.sample
        wanted = repeat(True) if sample is None else are_in(sample.numbers)
        for example in self:
            self._add(digest, example)
            if next(wanted):
                yield example
        if self._hash(digest) != (scan.sha256 if sample is None else sample.sha256):
            raise InvalidInput([Problem.of_file(self.shown, "changed while petkit was working with it", "run again")])

    def scan(self, keep: int = 0, check: Callable[[Example], list[Problem]] | None = None) -> Scan:
        """Read everything once: count, hash and check, keep the first ``keep`` examples, and list the problems of 20 bad rows.

        ``check`` finds further problems of a row that can be read.
        """
        digest = self._digest()
        columns: tuple[str, ...] = ()
        problems: list[Problem] = []
        head: list[Example] = []
        rows = bad = 0
        try:
            records = self._records()
            first = next(records, None)
            columns = () if first is None else tuple(map(str, first.values))
            if self._lacks_header(columns):
                message = f"has no header; its first line is {listed(columns)}"
                hint = "put a line such as text,label first; data.columns maps other names"
                return Scan(0, digest.hexdigest(), (Problem.of_file(self.shown, message, hint, line=1),))
            for example, found in self._checked(chain(() if first is None else (first,), records)):
                rows += 1
                found = check(example) if check is not None and example is not None else found
                if example is not None and not found:
                    self._add(digest, example)
                    head += [example] if len(head) < keep else []
                    continue
                bad += 1
                problems += found if bad <= SHOWN_PROBLEMS else ()
        except InvalidInput as error:
            problems += error.problems
        alike = {replace(problem, line=None) for problem in problems}
        if bad == rows > 1 and len(alike) == 1 and problems[0].message in (MISSING, _NO_LABEL, NOT_A_LIST):
            only = problems[0]
            hint = "; ".join(filter(None, (only.hint, WHICH_COLUMN)))
            problems = [replace(only, line=None, message=f"{only.message}, in all {rows:,} rows", hint=hint)]
        elif bad > SHOWN_PROBLEMS:
            problems.append(Problem.of_file(self.shown, f"… and {bad - SHOWN_PROBLEMS:,} more rows like these"))
        if rows == 0 and not problems:
            problems.append(Problem.of_file(self.shown, "every row is empty" if self.empty else NO_ROWS))
        notes = () if problems else tuple(self._notes(rows))
        groups = None if self.groups is None or problems else numbers_of(self.groups.starts, rows)
        sha256, most = self._hash(digest), self.most_candidates
        return Scan(rows, sha256, tuple(problems), columns, tuple(head), notes, groups=groups, candidates=most)

    def _lacks_header(self, columns: Sequence[str]) -> bool:
        """Say whether the first line of a table is a row: none of the columns in use, but a label, a number or a sentence."""
        used = {self.data.column(name) for name in (*self.fields, "label")}
        if not columns or not used.isdisjoint(columns) or table_kind(self.source) is None:
            return False
        known = set(self.labels or ())
        return any(name in known or name.strip().isdecimal() or len(name.split()) > _WORDS_OF_A_NAME for name in columns)

    def _notes(self, rows: int) -> Iterator[str]:
        if delimiter := delimiter_note(self.source):
            yield delimiter
        if self.empty:
            lines = ", ".join(map(str, self.empty_lines)) + (", …" if self.empty > _SHOWN_LINES else "")
            place = f"line{'s' * (self.empty > 1)} {lines}"
            count = f"{self.empty:,} of {rows + self.empty:,} rows"
            yield f"{self.shown}: {count} have no text and are left out ({place}; data.empty: refuse stops at them)"

    def _digest(self) -> hashlib._Hash:
        labels = None if self.labels is None else tuple(self.labels)
        read: tuple[Any, ...] = (sorted(self.fields), labels, "multi") if self.multi else (sorted(self.fields), labels)
        read += () if self.candidates is None else ("candidates", self.candidates.columns)
        return hashlib.sha256(repr(read).encode())

    def _add(self, digest: hashlib._Hash, example: Example) -> None:
        """Hash a row's content, regardless of the order in which patterns name its fields."""
        several = self.multi or self.candidates is not None
        said = (sorted(example.fields.items()), example.labels if several else example.label)
        digest.update(repr(said).encode("utf-8", "surrogatepass"))

    def _hash(self, digest: hashlib._Hash) -> str:
        """Return the hash of all rows and of where groups begin."""
        if self.groups is not None:
            digest.update(repr(self.groups.starts).encode())
        return digest.hexdigest()

    def _records(self) -> Iterator[Record]:
        used = {self.data.column(name) for name in (*self.fields, "id", *(() if self.labels is None else ("label",)))}
        used |= set() if self.group is None else {self.group}
        used |= set() if self.candidates is None else set(map(self.data.column, self.candidates.columns))
        return read_records(self.source, None if self.keep is None else used.union(self.keep))

    def _checked(self, records: Iterable[Record]) -> Iterator[tuple[Example | None, list[Problem]]]:
        names = self.data.label_names
        if names is None and self.labels is not None:
            names = class_names(self.source, self.data.column("label"))
        reader = LabelReader(self.labels, names, self.multi, self.data.label_separator, self.of_model)
        bad, self.empty, self.empty_lines, good = 0, 0, [], 0
        self.groups = None if self.group is None else GroupReader(self.group)
        self.most_candidates = 0
        for index, record in enumerate(records, 1):
            if self.most_rows is not None and index > self.most_rows:
                message = f"more than {self.most_rows:,} labelled rows"
                raise BeyondLimit([Problem.of_file(self.shown, message, "put the others into data.unlabeled", line=record.line)])
            row = _Row(self.shown, record, advises=bad < SHOWN_PROBLEMS)
            if record.error:
                row.refuse("", record.error, record.hint)
            else:
                fields = {field: self._text(row, self.data.column(field)) for field in self.fields}
                if self.candidates is None:
                    labels = () if self.labels is None else self._labels(row, self.data.column("label"), reader)
                else:
                    own, labels = self._candidates(row, self.candidates)
                    fields |= own
                name = self._id(row, self.data.column("id"), f"row-{index}")
                if self.groups is not None and (wrong := self.groups.read(good, record.values, record.line))[0]:
                    row.refuse(self.groups.column, *wrong)
            if self.skips_empty and any(problem.message == _EMPTY for problem in row.problems):
                self.empty += 1
                self.empty_lines += [record.line] if self.empty <= _SHOWN_LINES else []
                continue
            if row.problems:
                bad += 1
                yield None, row.problems
                continue
            good += 1
            one, several = (None, labels) if self.multi or len(labels) > 1 else (labels[0] if labels else None, ())
            yield Example(name, fields, one, record.line, several, self._kept(record.values)), row.problems

    def _kept(self, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if not self.keep:
            return None if self.keep is not None else values
        return {column: values[column] for column in self.keep if column in values}

    def _id(self, row: _Row, column: str, default: str) -> str:
        own_id = row.record.values.get(column)
        name = default if is_missing(own_id) else str(own_id)
        if len(name) > limits.ID_CHARACTERS:
            message = f"is {len(name):,} characters long; the maximum is {limits.ID_CHARACTERS:,}"
            row.refuse(column, message, "data.columns says which it is")
        elif SURROGATE.search(name):
            row.refuse(column, LONE_SURROGATE)
        return name

    def _text(self, row: _Row, column: str) -> str:
        value = row.record.values.get(column)
        if column not in row.record.values:
            row.refuse(column, MISSING, row.near(column, row.record.values))
        elif is_missing(value) or (isinstance(value, str) and not value.strip()):
            if not self.blank:
                row.refuse(column, _EMPTY, "remove the row or fill it in")
        elif not isinstance(value, str):
            row.refuse(column, f"must be text, not {value!r:.60}")
        elif len(value) > limits.ROW_BYTES:  # of a dataset; a file's reader has met it
            row.refuse(column, TOO_LONG)
        elif SURROGATE.search(value):
            row.refuse(column, LONE_SURROGATE)
        return value if isinstance(value, str) else ""

    def _candidates(self, row: _Row, candidates: Candidates) -> tuple[dict[str, str], tuple[int, ...]]:
        """Return a row's candidates by field and, where labels are read, the numbers of the right ones."""
        values, label = row.record.values, self.data.column("label")
        try:
            own = candidates.read(values, [self.data.column(name) for name in candidates.columns])
            right = () if self.labels is None else right_candidates(label, values.get(label), list(own.values()))
        except NotCandidates as mistake:
            if any(problem.key == mistake.column for problem in row.problems):  # a pattern reads it too
                return {}, ()
            near = row.near(mistake.column, values) if mistake.message == MISSING else mistake.hint
            return {}, row.refuse(mistake.column, mistake.message, near)
        self.most_candidates = max(self.most_candidates, len(own))
        if right is None:
            return own, row.refuse(label, _NO_LABEL, "" if label in values else row.near(label, values))
        return own, right

    def _labels(self, row: _Row, column: str, reader: LabelReader) -> tuple[int, ...]:
        """Return the indices of a row's labels in class order; exactly one of them unless rows may have several."""
        value, columns = row.record.values.get(column), row.record.values
        if column not in columns:
            one_hot = row.advises and sum(label in columns for label in reader.labels or ()) > 1
            example = self.data.label_separator.join(list(reader.labels or ())[: 1 + self.multi])
            hint = f"a column for each label is not read; write {example} in one column" if one_hot else ""
            return row.refuse(column, _NO_LABEL, hint or row.near(column, columns))
        try:
            found = reader.read(value)
        except NotLabels as mistake:
            return row.refuse(column, mistake.message, reader.advice(mistake) if row.advises else mistake.hint)
        if found is None:
            return row.refuse(column, _NO_LABEL, "an empty list says that none applies" if self.multi else "")
        return tuple(sorted(self._label_index[label] for label in found))
