"""Labels for new rows, by the student or by the ensemble of teachers; rows stream through.

Model code is imported only by :meth:`Predictor.load`: a predictor with another source of logits needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.config.schema.pipeline import ComputeSpec, DataSpec
from petkit.ensemble import FloatArray, LabelKind
from petkit.errors import InvalidInput, Problem
from petkit.metrics import Decision

CHUNK = 1024
Fields = Mapping[str, str]


@dataclass(frozen=True)
class Prediction:
    """The labels of one row.

    Attributes:
        label: its label; where rows may have several, all it has with the separator between them (empty: none).
        probability: how probable the answer is; of several labels, that it has these and no other, each judged on its own.
        probabilities: of each label, in class order; they sum to 1 unless rows may have several.
        labels: the labels by themselves: one, or as many as the row has.
        expected: the expected place ``Σ p_i i`` on an ordinal scale, from 0; None for other labels.
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
    """

    def __init__(
        self,
        labels: Sequence[str],
        fields: Sequence[str],
        reading: Mapping[str, Any],
        score: Callable[[Sequence[Fields]], FloatArray],
        decision: Decision,
    ) -> None:
        self.labels = tuple(labels)
        self.fields = tuple(fields)
        self.columns: dict[str, str] = dict(reading.get("columns") or {})
        self.label_names: tuple[str, ...] | None = tuple(reading.get("label_names") or ()) or None
        self.label_separator: str = reading.get("label_separator") or DataSpec.model_fields["label_separator"].default
        self.decision = decision
        self._score = score

    @classmethod
    def load(cls, folder: str | Path, *, teachers: bool = False, compute: ComputeSpec | None = None) -> Predictor:
        """Load a run folder or a model folder.

        Args:
            folder: a run folder, or any sequence-classification model folder.
            teachers: predict with the ensemble of teachers instead of the student (run folders only).
            compute: device, precision and threads; default: automatic. An automatic precision is that of the student's
                training, so that its predictions are those its own evaluation measured.

        Raises:
            ModelRefused: the folder has no usable classifier.
            IncompleteRun: the run is not finished, or damaged.
            RunConflict: the run was made by another version of petkit.
        """
        from petkit.predict.loading import load_predictor

        return load_predictor(Path(folder), teachers, compute)

    def __call__(self, rows: Sequence[str | Fields]) -> list[Prediction]:
        """Predict rows: texts, or mappings from field to text.

        Raises:
            InvalidInput: a row lacks a field, or a bare text is given where rows have several fields.
        """
        return list(self.stream(rows))

    def stream(self, rows: Iterable[str | Fields]) -> Iterator[Prediction]:
        """Predict any number of rows in order, a thousand at a time; memory does not grow with their number."""
        pending = iter(rows)
        while chunk := list(islice(pending, CHUNK)):
            logits = self.logits(chunk)
            yield from map(self._prediction, self.decision.kind.probabilities(logits), self.decision.chosen(logits))

    def logits(self, rows: Sequence[str | Fields]) -> FloatArray:
        """Return label logits of shape ``(rows, labels)``."""
        return self._score([self._checked(row) for row in rows])

    def _prediction(self, probabilities: NDArray[np.float64], chosen: NDArray[np.bool_]) -> Prediction:
        """Return the record of one row, from its labels' probabilities and which of them it has, shape ``(labels,)`` each."""
        kind, given = self.decision.kind, tuple(compress(self.labels, chosen))
        answer = np.where(chosen, probabilities, 1 - probabilities) if kind.multi else probabilities[chosen]
        expected = float(probabilities @ np.arange(len(self.labels))) if kind is LabelKind.ORDINAL else None
        each = dict(zip(self.labels, probabilities.tolist(), strict=True))
        return Prediction(self.label_separator.join(given), float(answer.prod()), each, given, expected)

    def _checked(self, row: str | Fields) -> Fields:
        if isinstance(row, str):
            row = {self.fields[0]: row}
        missing = [field for field in self.fields if not isinstance(row.get(field), str)]
        if missing:
            message = f"a row needs the fields {', '.join(self.fields)}; missing: {', '.join(missing)}"
            raise InvalidInput([Problem.of_command(message)])
        return row
