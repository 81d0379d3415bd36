"""The record of one labelled row, made from label logits; needs numpy alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from petkit.ensemble import FloatArray, LabelKind
from petkit.metrics import Decision


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


def predictions(logits: FloatArray, labels: Sequence[str], decision: Decision, separator: str) -> Iterator[Prediction]:
    """Yield the prediction of every row of ``logits (rows, labels)``.

    Args:
        labels: label names in class order.
        separator: stands between several labels of a row.
    """
    kind = decision.kind
    for probabilities, chosen in zip(kind.probabilities(logits), decision.chosen(logits), strict=True):  # both (labels,)
        given = tuple(label for label, has in zip(labels, chosen, strict=True) if has)
        answer = np.where(chosen, probabilities, 1 - probabilities) if kind.multi else probabilities[chosen]
        yield Prediction(
            label=separator.join(given),
            probability=float(answer.prod()),
            probabilities=dict(zip(labels, probabilities.tolist(), strict=True)),
            labels=given,
            expected=float(probabilities @ np.arange(len(labels))) if kind is LabelKind.ORDINAL else None,
        )
