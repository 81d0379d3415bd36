"""Labels for new rows, by the student or by the ensemble of teachers; rows stream through.

Model code is imported only by :meth:`Predictor.load`: a predictor with another source of logits needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.config.schema.pipeline import ComputeSpec, DataSpec
from petkit.data.chunks import chunks
from petkit.data.examples import LONE_SURROGATE, SURROGATE
from petkit.ensemble import FloatArray, LabelKind
from petkit.errors import InvalidInput, Problem
from petkit.metrics import Decision
from petkit.metrics.decision import scale_of

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Prediction:
    """The labels of one row.

    Attributes:
        label: its label; where rows may have several, all it has with the separator between them (empty: none).
        probability: how probable the answer is; of several labels, that it has these and no other, each judged on its own.
        probabilities: of each label, in class order; they sum to 1 unless rows may have several.
        labels: the labels by themselves: one, or as many as the row has.
        expected: the expected value ``Σ p_i v_i`` on an ordinal scale, where labels are numbers ``v_i`` or places from 1; else None.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    labels: tuple[str, ...]
    expected: float | None = None


class Predictor:
    """A classifier ready to use.

    >>> predictor = Predictor.load("runs/support-tickets")  # the folder of a finished run
    >>> predictor(["Where is my parcel?"])[0].label in predictor.labels
    True

    Attributes:
        labels: label names in class order.
        fields: the fields a row must have.
        columns: field name → column name, as in the pipeline's data.
        label_names: label of each class number, where the pipeline's data has numbers.
        label_separator: joins several labels of a row, in files and in ``Prediction.label``.
        decision: how label logits become labels.
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
        self.label_names: tuple[str, ...] | None = tuple(reading.get("label_names") or ()) or None
        self.label_separator: str = reading.get("label_separator") or DataSpec.model_fields["label_separator"].default
        self.decision = decision
        self.notes = tuple(notes)
        self._score = score

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
        """Predict rows: one text, or any number of texts or of mappings from field (or its column) to text.

        A DataFrame, a Series and a ``datasets.Dataset`` are rows too.

        Raises:
            InvalidInput: every row that is something else, is empty or lacks a field.
        """
        return list(self.stream(self._checked(rows)))

    def stream(self, rows: str | Iterable[str | Fields]) -> Iterator[Prediction]:
        """Predict any number of rows in order, some at a time; memory does not grow with their number."""
        for chunk in chunks(self._each(rows), lambda row: sum(len(text) for text in row[0].values() if isinstance(text, str))):
            logits = self._score(_sound(chunk))
            yield from map(self._prediction, self.decision.kind.probabilities(logits), self.decision.chosen(logits))

    def logits(self, rows: str | Iterable[str | Fields]) -> FloatArray:
        """Return label logits of shape ``(rows, labels)``."""
        return self._score(self._checked(rows))

    def _prediction(self, probabilities: NDArray[np.float64], chosen: NDArray[np.bool_]) -> Prediction:
        """Return the record of one row, from its labels' probabilities and which of them it has, shape ``(labels,)`` each."""
        kind, given = self.decision.kind, tuple(compress(self.labels, chosen))
        answer = np.where(chosen, probabilities, 1 - probabilities) if kind.multi else probabilities[chosen]
        expected = float(probabilities @ scale_of(self.labels)) if kind is LabelKind.ORDINAL else None
        each = dict(zip(self.labels, probabilities.tolist(), strict=True))
        return Prediction(self.label_separator.join(given), float(answer.prod()), each, given, expected)

    def _checked(self, rows: Any) -> list[Fields]:
        """Return all rows as fields."""
        return _sound(self._each(rows))

    def _each(self, rows: Any) -> Iterator[tuple[Fields, list[Problem]]]:
        """Yield the fields of each row and what is wrong with it."""
        for number, row in enumerate(rows_of(rows, [self.columns.get(name, name) for name in self.fields]), 1):
            if not isinstance(row, (str, Mapping)):
                message = "missing" if _is_missing(row) else f"must be a text or a mapping, not {row!r:.60}"
                yield {}, [Problem.of_option(f"row {number}", message)]
                continue
            given = {self.fields[0]: row} if isinstance(row, str) else row
            values: dict[str, Any] = {name: given.get(name, given.get(self.columns.get(name, name))) for name in self.fields}
            missing = [name for name, value in values.items() if _is_missing(value)]
            mistakes = [f"{name}: {text_mistake(value)}" for name, value in values.items() if text_mistake(value)]
            if missing:
                mistakes = [f"a row needs the fields {', '.join(self.fields)}; missing: {', '.join(missing)}"]
            yield values, [Problem.of_option(f"row {number}", mistake) for mistake in mistakes]


def rows_of(data: Any, columns: Sequence[str]) -> Iterable[Any]:
    """Return what a caller gave as rows: one text, several rows, or a DataFrame of these ``columns`` (it would name its columns)."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        names = list(data.columns)
        if wrong := [name for name in columns if names.count(name) != 1]:
            messages = (f"column {name!r} is {'named twice' if name in names else 'missing'}" for name in wrong)
            raise InvalidInput(map(Problem.of_command, messages))
        return (dict(zip(columns, row, strict=True)) for row in zip(*(data[name] for name in columns), strict=True))
    if isinstance(data, str):
        return [data]
    if isinstance(data, (Mapping, bytes, bytearray)) or not isinstance(data, Iterable):
        message = f"give a text, or a list of texts or mappings, not {type(data).__name__}"
        raise InvalidInput([Problem.of_command(message, "put it in a list" if isinstance(data, Mapping) else "")])
    return data


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
