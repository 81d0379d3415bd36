"""Labels for new rows, by the student or by the ensemble of teachers; rows stream through.

Model code is imported only by :meth:`Predictor.load`: a predictor with another source of logits needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from petkit.config.schema.pipeline import ComputeSpec, DataSpec
from petkit.data.candidates import Candidates, NotCandidates
from petkit.data.cells import LONE_SURROGATE, SURROGATE
from petkit.data.chunks import chunks
from petkit.ensemble import FloatArray, LabelKind
from petkit.errors import InvalidInput, Problem, listed
from petkit.metrics import Decision
from petkit.metrics.decision import scale_of

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Prediction:
    """The labels of one row.

    Attributes:
        label: its label; where rows may have several, all it has with the separator between them (empty: none).
        probability: how probable the answer is; of several labels, that it has these and no other, each judged on its own.
        probabilities: of each label, in class order, or of each candidate of the row; they sum to 1 unless rows may have several.
        labels: the labels by themselves: one, or as many as the row has.
        candidate: where the row has candidates of its own, the number of the answer among them, from 0; its text is ``label``.
        expected: the expected value ``Σ p_i v_i`` on an ordinal scale, where labels are numbers ``v_i`` or places from 1; else None.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    labels: tuple[str, ...]
    expected: float | None = None
    candidate: int | None = None


class Predictor:
    """A classifier ready to use.

    >>> predictor = Predictor.load("runs/support-tickets")  # the folder of a finished run
    >>> predictor(["Where is my parcel?"])[0].label in predictor.labels
    True

    Attributes:
        labels: label names in class order; none where each row has candidates of its own.
        fields: the fields a row must have.
        candidates: where rows have candidates of their own, their columns.
        columns: field name → column name, as in the pipeline's data.
        exact: fields that are read from their columns alone, and never from one of their own name.
        label_names: label of each class number, where the pipeline's data has numbers.
        label_separator: joins several labels of a row, in files and in ``Prediction.label``.
        empty: "skip" where an evaluation leaves rows without a text out, as the run did; else it refuses them.
        decision: how label logits become labels.
        score: gives the label logits of checked rows, of which it takes the texts by field.
        notes: what to know about how it predicts.
    """

    def __init__(
        self,
        labels: Sequence[str],
        fields: Sequence[str],
        reading: Mapping[str, Any],
        score: Callable[[Sequence[Fields]], FloatArray],
        decision: Decision,
        notes: Sequence[str] = (),
    ) -> None:
        self.labels = tuple(labels)
        self.fields = tuple(fields)
        self.columns: dict[str, str] = dict(reading.get("columns") or {})
        self.exact: set[str] = set()
        self.label_names: tuple[str, ...] | None = tuple(reading.get("label_names") or ()) or None
        self.label_separator: str = reading.get("label_separator") or DataSpec.model_fields["label_separator"].default
        self.empty: Literal["skip", "refuse"] | None = reading.get("empty")
        self.candidates = Candidates.of(reading.get("candidates"))
        self.decision = decision
        self.notes = tuple(notes)
        self.score = score

    @classmethod
    def load(cls, folder: str | Path, *, teachers: bool = False, compute: ComputeSpec | None = None) -> Predictor:
        """Load a run folder or a model folder.

        Args:
            folder: a run folder, or any sequence-classification model folder.
            teachers: predict with the ensemble of teachers instead of the student (run folders only).
            compute: device, precision and threads; default: automatic. An automatic precision is that of the student's
                training, so that its predictions are those its own evaluation measured; float32 where bfloat16 would be
                emulated.

        Raises:
            ModelRefused: the folder has no usable classifier.
            IncompleteRun: the run is not finished, or damaged.
            RunConflict: the run was made by another version of petkit.
        """
        from petkit.predict.loading import load_predictor

        return load_predictor(Path(folder), teachers, compute)

    def __call__(self, rows: str | Iterable[str | Fields]) -> list[Prediction]:
        """Predict rows: one text, or any number of texts or of mappings from column to text.

        A DataFrame, a Series and a ``datasets.Dataset`` are rows too. Where a column is missing, one of the field's own name
        is read, unless it is that of another field, the label or the id.

        Raises:
            InvalidInput: every row that is something else, is empty or lacks a field.
        """
        checked = _sound(self._each(rows))
        return [found for chunk in chunks(checked, _characters) for found in self.predictions(chunk)]

    def stream(self, rows: str | Iterable[str | Fields]) -> Iterator[Prediction]:
        """Predict any number of rows in order, some at a time; memory does not grow with their number."""
        for chunk in chunks(self._each(rows), lambda row: _characters(row[0])):
            yield from self.predictions(_sound(chunk))

    def predictions(self, rows: Sequence[Fields]) -> Iterator[Prediction]:
        """Predict checked rows all at once: the texts of each by field, and never by column."""
        if not rows:
            return
        logits = self.score(rows)
        found = self.decision.kind.probabilities(logits), self.decision.chosen(logits)
        if self.candidates is None:
            yield from map(self._prediction, *found)
        else:
            yield from map(_chosen_candidate, map(self.candidates.texts, rows), *found)

    def logits(self, rows: str | Iterable[str | Fields]) -> FloatArray:
        """Return label logits of shape ``(rows, labels)``."""
        return self.score(_sound(self._each(rows)))

    def _prediction(self, probabilities: NDArray[np.float64], chosen: NDArray[np.bool_]) -> Prediction:
        """Return the record of one row, from its labels' probabilities and which of them it has, shape ``(labels,)`` each."""
        kind, given = self.decision.kind, tuple(compress(self.labels, chosen))
        answer = np.where(chosen, probabilities, 1 - probabilities) if kind.multi else probabilities[chosen]
        expected = float(probabilities @ scale_of(self.labels)) if kind is LabelKind.ORDINAL else None
        each = dict(zip(self.labels, probabilities.tolist(), strict=True))
        return Prediction(self.label_separator.join(given), float(answer.prod()), each, given, expected)

    def column(self, field: str) -> str:
        """Return the column of a field, of the ``label`` or of the ``id``."""
        return self.columns.get(field, field)

    def columns_in(self, names: Collection[str]) -> dict[str, str]:
        """Return field → its column among ``names``: the recorded one, or one of the field's own name that nothing else is read from."""
        others = self.exact | {self.column(name) for name in (*self.read_fields, "label", "id")}
        return {
            field: field if self.column(field) not in names and field in names and field not in others else self.column(field)
            for field in self.read_fields
        }

    @property
    def read_fields(self) -> tuple[str, ...]:
        """The fields of texts, then those of candidates."""
        more = () if self.candidates is None else self.candidates.columns
        return (*self.fields, *(name for name in more if name not in self.fields))

    def own_candidates(self, row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
        """Return the candidates of a row by field, from its ``columns`` by field; none of a model with fixed labels.

        Raises:
            NotCandidates: the row has none, or none to choose among.
        """
        if self.candidates is None:
            return {}
        return self.candidates.read(row, [columns[name] for name in self.candidates.columns])

    def _each(self, rows: Any) -> Iterator[tuple[Fields, list[Problem]]]:
        """Yield the fields of each row and what is wrong with it."""
        for number, row in enumerate(rows_of(rows, self.columns_in), 1):
            if not isinstance(row, (str, Mapping)):
                message = "missing" if _is_missing(row) else f"must be a text or a mapping, not {row!r:.60}"
                yield {}, [Problem.of_option(f"row {number}", message)]
                continue
            given = {self.column(self.fields[0]): row} if isinstance(row, str) else row
            columns = self.columns_in(given)
            values: dict[str, Any] = {name: given.get(columns[name]) for name in self.fields}
            missing = [columns[name] for name, value in values.items() if _is_missing(value)]
            hint = ""
            mistakes = [f"{columns[name]}: {text_mistake(value)}" for name, value in values.items() if text_mistake(value)]
            if missing:
                mistakes = [f"a row needs the fields {', '.join(columns.values())}; missing: {', '.join(missing)}"]
            else:
                try:
                    values |= self.own_candidates(given, columns)
                except NotCandidates as mistake:
                    mistakes.append(f"{mistake.column}: {mistake.message}")
                    hint = mistake.hint
            if isinstance(row, Mapping) and any(column not in row for column in missing):
                hint = f"it has: {listed(list(map(str, given)))}"
            yield values, [Problem.of_option(f"row {number}", mistake, hint) for mistake in mistakes]


def _chosen_candidate(texts: Sequence[str], probabilities: NDArray[np.float64], chosen: NDArray[np.bool_]) -> Prediction:
    """Return the record of a row with these candidates, from their probabilities and which is chosen, ``(candidates,)`` each."""
    number = int(chosen.argmax())
    each = dict(zip(texts, probabilities[: len(texts)].tolist(), strict=True))
    return Prediction(texts[number], float(probabilities[number]), each, (texts[number],), candidate=number)


def rows_of(data: Any, columns_in: Callable[[Collection[str]], dict[str, str]]) -> Iterable[Any]:
    """Return what a caller gave as rows: one text, several rows, or a DataFrame, of which ``columns_in`` names the columns to read."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        names = list(data.columns)
        columns = list(columns_in(names).values())
        if wrong := [name for name in columns if names.count(name) != 1]:
            messages = (f"column {name!r} is {'named twice' if name in names else 'missing'}" for name in wrong)
            hint = f"the DataFrame has: {listed(list(map(str, names)))}"
            raise InvalidInput(Problem.of_option("", message, hint) for message in messages)
        return (dict(zip(columns, row, strict=True)) for row in zip(*(data[name] for name in columns), strict=True))
    if isinstance(data, str):
        return [data]
    if isinstance(data, (Mapping, bytes, bytearray)) or not isinstance(data, Iterable):
        message = f"give a text, or a list of texts or mappings, not {type(data).__name__}"
        raise InvalidInput([Problem.of_option("", message, "put it in a list" if isinstance(data, Mapping) else "")])
    return data


def _characters(row: Fields) -> int:
    """Return how long the texts of a row are together."""
    return sum(len(text) for text in row.values() if isinstance(text, str))


def text_mistake(value: object) -> str:
    """Say why a value is not a text to label; empty if it is one."""
    if not isinstance(value, str):
        return "missing" if value is None else f"must be text, not {value!r:.60}"
    if not value.strip():
        return "empty"
    return LONE_SURROGATE if SURROGATE.search(value) else ""


def _sound(rows: Iterable[tuple[Fields, list[Problem]]]) -> list[Fields]:
    """Return the fields of rows; refuse all that are not right."""
    found = list(rows)
    if problems := [problem for _, mistakes in found for problem in mistakes]:
        raise InvalidInput(problems)
    return [fields for fields, _ in found]


def _is_missing(value: Any) -> bool:
    """Say whether a value is None, NaN, or what pandas writes in their place."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
