"""Rows in: from files, standard input or the command line, with their predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from petkit.config.schema.pipeline import DataSpec
from petkit.data.candidates import NotCandidates
from petkit.data.cells import LONE_SURROGATE, SURROGATE, is_missing
from petkit.data.chunks import chunks
from petkit.data.examples import NO_ROWS, Example, ExampleSource, targets_of
from petkit.data.precheck import STANDARD_INPUT
from petkit.data.records import parse_json_line, read_records
from petkit.errors import InvalidInput, Problem, did_you_mean
from petkit.metrics import Metrics, evaluate, evaluate_candidates
from petkit.predict.columns import OutputColumns
from petkit.predict.predictor import Prediction, Predictor, text_mistake
from petkit.storage.ragged import stacked


def source_of(
    path: str, predictor: Predictor, *, labelled: bool, keep: Sequence[str] | None = (), group: str | None = None
) -> ExampleSource:
    """Return a file as examples with the predictor's fields and, where it is ``labelled``, its labels.

    Rows with labels but without a text are refused or left out, as in the run. Without labels a text may be empty, and the
    examples have the other columns that are to be kept (None: all).
    """
    data = DataSpec(
        unlabeled=path,
        columns=_columns_of(path, predictor),
        label_names=predictor.label_names,
        label_separator=predictor.label_separator,
        empty=predictor.empty if labelled else None,
    )
    labels = predictor.labels if labelled else None
    kind = predictor.decision.kind
    return ExampleSource(
        path,
        data,
        predictor.fields,
        labels,
        kind,
        keep=keep,
        blank=not labelled,
        of_model=True,
        group=group,
        candidates=predictor.candidates,
    )


def _columns_of(path: str, predictor: Predictor) -> dict[str, str]:
    """Return field → column as a file has them in its first row."""
    fields = predictor.read_fields
    names = {*fields, *map(predictor.column, fields)}
    first = next(read_records(path, names), None) if len(names) > len(fields) else None
    return predictor.columns if first is None else predictor.columns | predictor.columns_in(first.values)


def file_rows(path: str, predictor: Predictor, columns: OutputColumns) -> Iterator[Example]:
    """Return the rows of a file after a pass over all of them; refuse all bad ones, and those that the output cannot hold."""
    source = source_of(path, predictor, labelled=False, keep=columns.wanted)
    columns.source = source.shown
    scan = source.scan(check=columns.problems)
    if problems := [problem for problem in scan.problems if problem.message != NO_ROWS]:
        raise InvalidInput(problems)
    columns.notes = scan.notes
    if scan.rows:
        columns.finish(scan.columns)
    return source.unchanged(scan)


def evaluate_file(
    predictor: Predictor, path: str, on_note: Callable[[str], None] = lambda note: None, *, group: str | None = None
) -> Metrics:
    """Return the metrics of a predictor on a labelled file; refuse all its bad rows, and labels the model does not know.

    Args:
        on_note: called with what to know about how the file was read.
        group: column that says which rows belong together.
    """
    source = source_of(path, predictor, labelled=True, group=group)
    scan = source.scan()
    if scan.problems:
        raise InvalidInput(scan.problems)
    for note in scan.notes:
        on_note(note)
    blocks, targets, texts = [], [], []
    for chunk in chunks(source, _size):
        blocks.append(predictor.score([example.fields for example in chunk]))
        targets.append(targets_of(chunk, len(predictor.labels) or scan.candidates))
        if predictor.candidates is not None:
            texts += [predictor.candidates.texts(example.fields) for example in chunk]
    logits, gold = stacked(blocks), np.concatenate(targets)
    if predictor.candidates is not None:
        return evaluate_candidates(logits, gold, texts, scan.groups)
    return evaluate(logits, gold, predictor.labels, predictor.decision, scan.groups)


def argument_rows(texts: Sequence[str], predictor: Predictor) -> list[Example]:
    """Return texts given one by one as rows; refuse those that are not texts, and a model that reads several fields."""
    if len(predictor.read_fields) > 1:
        raise InvalidInput([Problem.of_option("", _reads_fields(predictor), "give them with --input")])
    mistakes = {f"text {number}": text_mistake(text) for number, text in enumerate(texts, 1)}
    if any(mistakes.values()):
        raise InvalidInput([Problem.of_option(text, message) for text, message in mistakes.items() if message])
    return [_text_row(text, number, predictor) for number, text in enumerate(texts, 1)]


def stream_rows(lines: Iterable[bytes], predictor: Predictor) -> Iterator[Example]:
    """Yield the rows of standard input: JSON Lines if its first row is a JSON object, else one text per line."""
    as_json: bool | None = None
    first = 0  # line of the first row
    for number, raw in enumerate(lines, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise _bad_line(number, "not UTF-8", "send UTF-8") from None
        if not line.strip():
            continue
        if as_json is None:
            first = number
            as_json = line.lstrip().startswith("{")
            if line.strip() == "[" or (line.lstrip().startswith("[") and _is_json(line)):
                raise _bad_line(number, "is a list in JSON", 'send one text a line, or one object such as {"text": "…"} a line')
            if not as_json and len(predictor.read_fields) > 1:
                raise _bad_line(number, _reads_fields(predictor), "send JSON Lines")
        yield _json_row(line, number, predictor, first) if as_json else _text_row(line, number, predictor)


def begun(examples: Iterable[Example], columns: OutputColumns) -> Iterator[Example]:
    """Return rows that are read once, after a look at the columns of the first."""
    rows = iter(examples)
    first = next(rows, None)
    if first is None:
        return rows
    columns.begin(first)
    return chain([first], rows)


def _json_row(line: str, number: int, predictor: Predictor, first: int) -> Example:
    record = parse_json_line(line, number)
    if record.error:
        hint = 'rows that begin with { are read as JSON; send such a text as {"text": "…"}' if number == first else ""
        raise _bad_line(number, record.error, hint)
    columns = predictor.columns_in(record.values)
    values = {columns[field]: record.values.get(columns[field]) for field in predictor.fields}
    # An empty text gets no label; one that is not there is a mistake.
    mistakes = {name: text_mistake("" if value is None and name in record.values else value) for name, value in values.items()}
    if found := [(column, message) for column, message in mistakes.items() if message not in ("", "empty")]:
        known = list(record.values)
        raise InvalidInput(
            Problem.of_file(STANDARD_INPUT, message, "" if name in known else did_you_mean(name, known), line=number, key=name)
            for name, message in found
        )
    id_column = predictor.column("id")
    own_id = record.values.get(id_column)
    if not is_missing(own_id) and SURROGATE.search(str(own_id)):
        raise _bad_line(number, LONE_SURROGATE, key=id_column)
    fields = {field: values[columns[field]] or "" for field in predictor.fields}
    try:
        fields |= predictor.own_candidates(record.values, columns)
    except NotCandidates as mistake:
        raise _bad_line(number, mistake.message, mistake.hint, mistake.column) from None
    return Example(f"row-{number}" if is_missing(own_id) else str(own_id), fields, None, number, values=record.values)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _text_row(text: str, number: int, predictor: Predictor) -> Example:
    return Example(f"row-{number}", {predictor.fields[0]: text}, None, number)


def _reads_fields(predictor: Predictor) -> str:
    return f"this model reads the fields {', '.join(predictor.read_fields)}"


def _bad_line(number: int, message: str, hint: str = "", key: str = "") -> InvalidInput:
    return InvalidInput([Problem.of_file(STANDARD_INPUT, message, hint, line=number, key=key)])


def predict_rows(examples: Iterable[Example], predictor: Predictor) -> Iterator[tuple[Example, Prediction | None]]:
    """Yield each example with its prediction, None where it has no text; some rows are in memory at a time."""
    for chunk in chunks(examples, _size):
        complete = [all(map(str.strip, example.fields.values())) for example in chunk]
        rows = [example.fields for example, whole in zip(chunk, complete, strict=True) if whole]
        predictions = predictor.predictions(rows)
        yield from ((example, next(predictions) if whole else None) for example, whole in zip(chunk, complete, strict=True))


def _size(example: Example) -> int:
    """Return about how many characters a row has."""
    values = example.fields.values() if example.values is None else example.values.values()
    return sum(len(value) if isinstance(value, (str, bytes)) else len(str(value)) for value in values)
