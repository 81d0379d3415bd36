"""Rows in: from files, standard input or the command line, with their predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee

import numpy as np

from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import LONE_SURROGATE, SURROGATE, Example, ExampleSource, targets_of
from petkit.data.precheck import STANDARD_INPUT
from petkit.data.records import parse_json_line
from petkit.errors import InvalidInput, Problem
from petkit.metrics import Metrics, evaluate
from petkit.predict.predictor import CHUNK, Prediction, Predictor


def source_of(path: str, predictor: Predictor, *, labelled: bool) -> ExampleSource:
    """Return a file as examples with the predictor's fields, and its labels where they are needed."""
    data = DataSpec(
        unlabeled=path, columns=predictor.columns, label_names=predictor.label_names, label_separator=predictor.label_separator
    )
    return ExampleSource(path, data, predictor.fields, predictor.labels if labelled else None, predictor.decision.kind)


def evaluate_file(predictor: Predictor, path: str) -> Metrics:
    """Return the metrics of a predictor on a labelled file; refuse all its bad rows, and labels the model does not know."""
    source = source_of(path, predictor, labelled=True)
    scan = source.scan()
    if scan.problems:
        raise InvalidInput(scan.problems)
    rows = iter(source)
    blocks, targets = [], []
    while chunk := list(islice(rows, CHUNK)):
        blocks.append(predictor.logits([example.fields for example in chunk]))
        targets.append(targets_of(chunk, len(predictor.labels)))
    return evaluate(np.concatenate(blocks), np.concatenate(targets), predictor.labels, predictor.decision)


def argument_rows(texts: Sequence[str], predictor: Predictor) -> list[Example]:
    """Return texts given one by one as rows; refuse those that are not texts, and a model that reads several fields."""
    if len(predictor.fields) > 1:
        raise InvalidInput([Problem.of_command(_reads_fields(predictor), "give them with --input")])
    mistakes = {f"text {number}": _mistake(text) for number, text in enumerate(texts, 1)}
    if any(mistakes.values()):
        raise InvalidInput([Problem.of_option(text, message) for text, message in mistakes.items() if message])
    return [_text_row(text, number, predictor) for number, text in enumerate(texts, 1)]


def stream_rows(lines: Iterable[bytes], predictor: Predictor) -> Iterator[Example]:
    """Yield the rows of standard input: JSON Lines if its first row is a JSON object, else one text per line."""
    as_json: bool | None = None
    for number, raw in enumerate(lines, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise _bad_line(number, "not UTF-8", "send UTF-8") from None
        if not line.strip():
            continue
        if as_json is None:
            as_json = line.lstrip().startswith("{")
            if not as_json and len(predictor.fields) > 1:
                raise _bad_line(number, _reads_fields(predictor), "send JSON Lines")
        yield _json_row(line, number, predictor) if as_json else _text_row(line, number, predictor)


def _json_row(line: str, number: int, predictor: Predictor) -> Example:
    record = parse_json_line(line, number)
    if record.error:
        raise _bad_line(number, record.error)
    columns = {field: predictor.columns.get(field, field) for field in predictor.fields}
    mistakes = {column: _mistake(record.values.get(column)) for column in columns.values()}
    if any(mistakes.values()):
        found = ((column, message) for column, message in mistakes.items() if message)
        raise InvalidInput([Problem.of_file(STANDARD_INPUT, message, line=number, key=column) for column, message in found])
    id_column = predictor.columns.get("id", "id")
    own_id = record.values.get(id_column)
    if own_id is not None and SURROGATE.search(str(own_id)):
        raise _bad_line(number, LONE_SURROGATE, key=id_column)
    fields = {field: record.values[column] for field, column in columns.items()}
    return Example(f"row-{number}" if own_id is None else str(own_id), fields, None, number)


def _text_row(text: str, number: int, predictor: Predictor) -> Example:
    return Example(f"row-{number}", {predictor.fields[0]: text}, None, number)


def _reads_fields(predictor: Predictor) -> str:
    return f"this model reads the fields {', '.join(predictor.fields)}"


def _bad_line(number: int, message: str, hint: str = "", key: str = "") -> InvalidInput:
    return InvalidInput([Problem.of_file(STANDARD_INPUT, message, hint, line=number, key=key)])


def _mistake(value: object) -> str:
    """Say why a value is not a text to label; empty if it is one."""
    if not isinstance(value, str):
        return "missing" if value is None else f"must be text, not {value!r:.60}"
    if not value.strip():
        return "empty"
    return LONE_SURROGATE if SURROGATE.search(value) else ""


def predict_rows(examples: Iterable[Example], predictor: Predictor) -> Iterator[tuple[Example, Prediction]]:
    """Yield each example with its prediction, a thousand rows in memory at a time."""
    kept, read = tee(examples)
    return zip(kept, predictor.stream(example.fields for example in read), strict=True)
