"""Predictions in and out: rows from files or standard input, results as JSON Lines, CSV or TSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice, tee
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

from petkit.config.schema.pipeline import DataSpec
from petkit.data.examples import LONE_SURROGATE, SURROGATE, Example, ExampleSource, targets_of
from petkit.data.precheck import STANDARD_INPUT
from petkit.data.records import parse_json_line
from petkit.ensemble import LabelKind
from petkit.errors import InvalidInput, Problem, did_you_mean
from petkit.formatting import visible_json
from petkit.metrics import Metrics, evaluate
from petkit.predict.predictor import CHUNK, Prediction, Predictor
from petkit.storage.atomic import whole_file

OUTPUTS = ("jsonl", "csv", "tsv")
_DELIMITERS = {"csv": ",", "tsv": "\t"}
# What spreadsheets begin a formula with, in either width, and what they skip before one (OWASP, "CSV Injection").
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
# Takes one predicted row.
Writer: TypeAlias = Callable[[Example, Prediction], None]


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


@contextmanager
def output_file(path: Path, predictor: Predictor) -> Iterator[Writer]:
    """Write predictions to a file that appears only when all of them are there."""

    def refused(message: str, hint: str = "") -> InvalidInput:
        return InvalidInput([Problem.of_file(path, message, hint, key="--output")])

    ending = path.suffix.lower().lstrip(".")
    if ending not in OUTPUTS:
        raise refused(f"unknown kind {ending!r}", did_you_mean(ending, OUTPUTS))
    if path.is_dir():
        raise refused("is a folder, not a file")
    with ExitStack() as closing:
        try:
            stream = closing.enter_context(whole_file(path))
        except OSError as error:
            raise refused(f"cannot be written: {error.strerror}") from None
        yield json_writer(stream, predictor) if ending == "jsonl" else _table_writer(stream, predictor, _DELIMITERS[ending])


def json_writer(stream: IO[str], predictor: Predictor) -> Writer:
    """Return a writer of JSON Lines: id, fields, label, probability, probabilities; ``expected`` on an ordinal scale.

    Where rows may have several labels, ``label`` is the list of them: a file of predictions reads like one of data.
    Every value comes back as it was; characters that would steer a terminal are written as ``\\u001b``.
    """
    multi = predictor.decision.kind.multi

    def write(example: Example, prediction: Prediction) -> None:
        row = {
            "id": example.id,
            **example.fields,
            "label": list(prediction.labels) if multi else prediction.label,
            "probability": round(prediction.probability, 6),
            **({} if prediction.expected is None else {"expected": round(prediction.expected, 6)}),
            "probabilities": {label: round(value, 6) for label, value in prediction.probabilities.items()},
        }
        stream.write(visible_json(json.dumps(row, ensure_ascii=False)) + "\n")

    return write


def _table_writer(stream: IO[str], predictor: Predictor, delimiter: str) -> Writer:
    """Return a writer of CSV or TSV: id, fields, label, probability, and one column ``p(label)`` per label.

    One cell has several labels of a row, with the separator between them; an ordinal scale adds ``expected``. A text that
    a spreadsheet would take for a formula gets an apostrophe before it; JSON Lines have every text as it was.
    """
    expected = ["expected"] if predictor.decision.kind is LabelKind.ORDINAL else []
    table = csv.writer(stream, delimiter=delimiter)
    table.writerow(["id", *predictor.fields, "label", "probability", *expected, *(f"p({label})" for label in predictor.labels)])

    def write(example: Example, prediction: Prediction) -> None:
        figures = [prediction.probability, *([] if prediction.expected is None else [prediction.expected])]
        figures += prediction.probabilities.values()
        texts = map(_plain_cell, (example.id, *example.fields.values(), prediction.label))
        table.writerow([*texts, *(f"{value:.6f}" for value in figures)])

    return write


def _plain_cell(text: str) -> str:
    """Return a text as a spreadsheet will show it and not execute it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
