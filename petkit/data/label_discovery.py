"""The label names of a data file, for pipelines whose verbalizer lists none."""

from __future__ import annotations

from petkit import limits
from petkit.config.schema import DataSpec
from petkit.data.records import class_names, read_records
from petkit.errors import BeyondLimit, InvalidInput, Problem, shown_path

_WHICH_COLUMN = "data.columns says which column is which"


def labels_in(source: str, data: DataSpec, *, ordinal: bool = False) -> tuple[str, ...]:
    """Return the distinct labels of a source: in the order of its class names, else as numbers, else alphabetically.

    Args:
        ordinal: the labels are ordered, so alphabetical order is refused.

    Raises:
        InvalidInput: fewer than two labels, or ordinal labels of unknown order.
        BeyondLimit: more labels, or longer ones, than the caps allow.
    """
    column = data.column("label")
    names = class_names(source, column)
    if names is not None:
        return tuple(names)
    labels: set[str] = set()
    for record in read_records(source, {column}):
        value = record.values.get(column)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            labels.add(str(value))
            if len(str(value)) > limits.KEY_CHARACTERS:
                message = f"label is {len(str(value)):,} characters long; the maximum is {limits.KEY_CHARACTERS}"
                raise BeyondLimit([Problem.of_file(shown_path(source), message, _WHICH_COLUMN, line=record.line, key=column)])
        if len(labels) > limits.LABELS:
            message = f"contains more than {limits.LABELS:,} different labels"
            raise BeyondLimit([Problem.of_file(shown_path(source), message, _WHICH_COLUMN, line=record.line, key=column)])
    if len(labels) < 2:
        message = f"contains {'one label' if labels else 'no labels'}; a classifier needs at least two"
        raise InvalidInput([Problem.of_file(shown_path(source), message, key=column)])
    numbers = all(label.removeprefix("-").isdecimal() for label in labels)
    if ordinal and not numbers:
        message, hint = "the order of its labels is unknown, and label_kind is ordinal", "list them: labels: {low: [], …}"
        raise InvalidInput([Problem.of_file(shown_path(source), message, hint, key=column)])
    return tuple(sorted(labels, key=lambda label: (int(label) if numbers else 0, label)))
