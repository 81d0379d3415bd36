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
from petkit.errors import InvalidInput, Problem, did_you_mean
from petkit.formatting import visible_json
from petkit.predict.columns import OutputColumns, json_value, table_cell
from petkit.predict.predictor import Prediction, Predictor
from petkit.storage.atomic import whole_file
from petkit.storage.destination import destination

OUTPUTS = ("jsonl", "csv", "tsv")
OPTION = "--output"
_DELIMITERS = {"csv": ",", "tsv": "\t"}
# Takes one predicted row; one without text has no prediction.
Writer: TypeAlias = Callable[[Example, Prediction | None], None]


def output_place(path: Path, model: Path, inputs: list[stat_result], *, force: bool) -> Path:
    """Return the file to write, links followed; refuse what cannot or must not be written, before a model is loaded.

    Args:
        model: the folder that predicts; files of it are not replaced, nor are any put among those of its steps.
        inputs: files that are read (:func:`petkit.storage.destination.identities`).
        force: another file that is there is replaced.
    """
    ending = kind_of(path)
    if ending not in OUTPUTS:
        standard = path.name in ("-", "stdout")
        hint = "without --output, JSON Lines go to standard output" if standard else did_you_mean(ending, OUTPUTS)
        raise InvalidInput([Problem.of_file(path, f"unknown kind {ending!r}", hint, key=OPTION)])
    target, folder = destination(path, force=force, inputs=inputs, key=OPTION), model.resolve()
    if target.is_relative_to(folder) and (target.exists() or target.parent != folder):
        raise InvalidInput([Problem.of_file(path, "is in the folder of the model", "choose a file outside it", key=OPTION)])
    return target


@contextmanager
def output_file(path: Path, predictor: Predictor, columns: OutputColumns | None = None) -> Iterator[Writer]:
    """Write predictions to a file that appears only when all of them are there."""
    kind = kind_of(path)
    columns = columns or OutputColumns(predictor, kind)
    with ExitStack() as closing:
        try:
            stream = closing.enter_context(whole_file(path))
        except OSError as error:
            raise InvalidInput([Problem.of_file(path, f"cannot be written: {error.strerror}", key=OPTION)]) from None
        if kind == "jsonl":
            yield json_writer(stream, predictor, columns)
        else:
            table = _Table(stream, predictor, columns)
            yield table.write
            table.begin()  # where there was no row


def kind_of(path: Path) -> str:
    """Return the format of an output by its ending."""
    return path.suffix.lower().lstrip(".")


def json_writer(stream: IO[str], predictor: Predictor, columns: OutputColumns | None = None) -> Writer:
    """Return a writer of JSON Lines: the row's columns, label, probability, probabilities; ``expected`` on an ordinal scale;
    of the row's own candidates the number of the ``candidate``.

    Where rows may have several labels, ``label`` is the list of them: a file of predictions reads like one of data.
    Every value comes back as it was; characters that would steer a terminal are written as ``\\u001b``.
    """
    columns = columns or OutputColumns(predictor, "jsonl")
    multi = predictor.decision.kind.multi

    def write(example: Example, prediction: Prediction | None) -> None:
        row = {name: json_value(value) for name, value in columns.of(example)}
        if prediction is None:
            row |= dict.fromkeys(columns.predicted)
        else:
            row["label"] = list(prediction.labels) if multi else prediction.label
            row |= {} if prediction.candidate is None else {"candidate": prediction.candidate}
            row["probability"] = round(prediction.probability, 6)
            row |= {} if prediction.expected is None else {"expected": round(prediction.expected, 6)}
            row["probabilities"] = {label: round(value, 6) for label, value in prediction.probabilities.items()}
        stream.write(visible_json(json.dumps(row, ensure_ascii=False)) + "\n")

    return write


class _Table:
    """A CSV or TSV file: the row's columns, label, probability, and one column ``p(label)`` per label; of candidates, which every
    row has others of, the number of the chosen one.

    One cell has several labels of a row, with the separator between them; an ordinal scale adds ``expected``. TSV has no
    quoting: a cell with a tab or a line break cannot be written.
    """

    def __init__(self, stream: IO[str], predictor: Predictor, columns: OutputColumns) -> None:
        self._predictor, self._columns = predictor, columns
        if columns.kind == "tsv":
            self._table = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        else:
            self._table = csv.writer(stream)
        self._header: list[str] = []

    def begin(self, example: Example | None = None) -> None:
        """Write the header, unless it is there: with the columns of the first row, if no others are known."""
        if not self._header:
            self._header = self._columns.header(example)
            self._table.writerow([*self._header, *self._columns.predicted])

    def write(self, example: Example, prediction: Prediction | None) -> None:
        """Write a row."""
        self.begin(example)
        if problems := self._columns.problems(example, self._header):
            raise InvalidInput(problems)
        cells = [table_cell(value, exact=exact) for value, exact in self._columns.cells(example)]
        if prediction is None:
            self._table.writerow([*cells, *[""] * len(self._columns.predicted)])
            return
        figures = [prediction.probability, *([] if prediction.expected is None else [prediction.expected])]
        label = [self._columns.labels(prediction)]
        if prediction.candidate is None:
            figures += prediction.probabilities.values()
        else:  # a text of the row, whose number has a column of its own
            label = [table_cell(prediction.label), str(prediction.candidate)]
        self._table.writerow([*cells, *label, *(f"{value:.6f}" for value in figures)])
