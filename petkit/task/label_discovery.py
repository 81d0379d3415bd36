"""The labels of a file, where nobody has named them: auto verbalizers find their words later."""

from __future__ import annotations

from petkit import limits
from petkit.config.schema import DataSpec
from petkit.data.records import class_names, read_records
from petkit.errors import BeyondLimit, InvalidInput, Problem, shown_path

_WHICH_COLUMN = "data.columns says which column is which"


def labels_in(source: str, data: DataSpec, *, ordinal: bool = False) -> tuple[str, ...]:
    """Return the different labels of a source in order: its own where it has one (class names), of numbers, or of the alphabet.

    Args:
        ordinal: the labels are places on a scale, of which the alphabet knows nothing.

    Raises:
        InvalidInput: fewer than two labels, or a scale whose order nothing tells.
        BeyondLimit: more labels, or longer ones, than anybody means.
    """
    column = data.column("label")
    named = class_names(source, column)
    if named is not None:
        return tuple(named)
    found: set[str] = set()
    for record in read_records(source, {column}):
        value = record.values.get(column)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            found.add(str(value))
            if len(str(value)) > limits.KEY_CHARACTERS:
                message = f"{len(str(value)):,} characters are no label; at most {limits.KEY_CHARACTERS}"
                raise BeyondLimit([Problem.of_file(shown_path(source), message, _WHICH_COLUMN, line=record.line, key=column)])
        if len(found) > limits.LABELS:
            message = f"holds more than {limits.LABELS:,} different labels"
            raise BeyondLimit([Problem.of_file(shown_path(source), message, _WHICH_COLUMN, line=record.line, key=column)])
    if len(found) < 2:
        message = f"holds {'one label' if found else 'no labels'}; a classifier needs at least two"
        raise InvalidInput([Problem.of_file(shown_path(source), message, key=column)])
    numbers = all(label.removeprefix("-").isdecimal() for label in found)
    if ordinal and not numbers:
        message = "does not tell the order of its labels, and label_kind is ordinal"
        raise InvalidInput(
            [Problem.of_file(shown_path(source), message, "name them in order beside auto: labels: {low: [], …}", key=column)]
        )
    return tuple(sorted(found, key=lambda label: (int(label) if numbers else 0, label)))
