"""Predictions out: JSON Lines, CSV or TSV, in a file that appears only when all of them are there, or on standard output."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from os import stat_result
from pathlib import Path
from typing import IO, TypeAlias

from petkit.data.examples import Example
from petkit.ensemble import LabelKind
from petkit.errors import InvalidInput, Problem, did_you_mean
from petkit.formatting import visible_json
from petkit.predict.predictor import Prediction, Predictor
from petkit.storage.atomic import whole_file
from petkit.storage.destination import destination

OUTPUTS = ("jsonl", "csv", "tsv")
OPTION = "--output"
_DELIMITERS = {"csv": ",", "tsv": "\t"}
# What spreadsheets begin a formula with, in either width, and what they skip before one (OWASP, "CSV Injection").
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
# Takes one predicted row.
Writer: TypeAlias = Callable[[Example, Prediction], None]


def output_place(path: Path, model: Path, inputs: list[stat_result], *, force: bool) -> Path:
    """Return the file to write, links followed; refuse what cannot or must not be written, before a model is loaded.

    Args:
        model: the folder that predicts; files of it are not replaced, nor are any put among those of its steps.
        inputs: files that are read (:func:`petkit.storage.destination.identities`).
        force: another file that is there is replaced.
    """
    ending = path.suffix.lower().lstrip(".")
    if ending not in OUTPUTS:
        raise InvalidInput([Problem.of_file(path, f"unknown kind {ending!r}", did_you_mean(ending, OUTPUTS), key=OPTION)])
    target, folder = destination(path, force=force, inputs=inputs, key=OPTION), model.resolve()
    if target.is_relative_to(folder) and (target.exists() or target.parent != folder):
        raise InvalidInput([Problem.of_file(path, "is in the folder of the model", "choose a file outside it", key=OPTION)])
    return target


@contextmanager
def output_file(path: Path, predictor: Predictor) -> Iterator[Writer]:
    """Write predictions to a file that appears only when all of them are there."""
    ending = path.suffix.lower().lstrip(".")
    with ExitStack() as closing:
        try:
            stream = closing.enter_context(whole_file(path))
        except OSError as error:
            raise InvalidInput([Problem.of_file(path, f"cannot be written: {error.strerror}", key=OPTION)]) from None
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
