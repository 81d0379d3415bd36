"""Which labels the rows of a source have, where nothing else says so."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from petkit import limits
from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import WHICH_COLUMN
from petkit.data.labels import LabelReader, NotLabels
from petkit.data.records import class_names, read_records
from petkit.errors import BeyondLimit, InvalidInput, Problem, shown_path


def labels_in(source: str, data: DataSpec, *, ordinal: bool = False) -> tuple[str, ...]:
    """Return the distinct labels of a source: in the order of its class names, else as numbers, else (not ordinal) by alphabet."""
    column = data.column("label")
    if (names := class_names(source, column)) is not None:
        return names
    problem = partial(Problem.of_file, shown_path(source), key=column)
    labels: set[str] = set()
    reader = LabelReader(None)
    for record in read_records(source, {column}):
        label = ""
        with suppress(NotLabels):  # reported when the rows are read
            label = next(iter(reader.read(record.values.get(column)) or ()), "")
        labels |= {label} if label else set()
        beyond = ""
        if len(label) > limits.KEY_CHARACTERS:
            beyond = f"label is {len(label):,} characters long; the maximum is {limits.KEY_CHARACTERS}"
        elif len(labels) > limits.LABELS:
            beyond = f"contains more than {limits.LABELS:,} different labels"
        if beyond:
            raise BeyondLimit([problem(beyond, WHICH_COLUMN, line=record.line)])
    if len(labels) < 2:
        raise InvalidInput([problem(f"contains {'one label' if labels else 'no labels'}; a classifier needs at least two")])
    numbers = all(label.removeprefix("-").isdecimal() for label in labels)
    if ordinal and not numbers:
        message = "the order of its labels is unknown, and label_kind is ordinal"
        raise InvalidInput([problem(message, "list them: labels: {low: [], …}")])
    return tuple(sorted(labels, key=lambda label: (int(label) if numbers else 0, label)))
