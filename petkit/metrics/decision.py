"""From label logits to answers: one label per row, the labels it has, or a place on a scale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble import FloatArray, LabelKind
from petkit.ensemble.label_kind import Floats

Chosen: TypeAlias = NDArray[np.bool_]
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")


def scale_of(labels: Sequence[str]) -> Floats:
    """Return the values of ordinal labels: their own where all are numbers that rise or fall in order, else places from 1.

    >>> scale_of(("-1", "0", "2.5")).tolist(), scale_of(("1 star", "2 stars")).tolist(), scale_of(("1", "3", "2")).tolist()
    ([-1.0, 0.0, 2.5], [1.0, 2.0], [1.0, 2.0, 3.0])
    """
    if all(map(_NUMBER.fullmatch, labels)):
        values = np.array([float(label) for label in labels])
        steps = np.diff(values)
        if (steps > 0).all() or (steps < 0).all():
            return values
    return np.arange(1.0, len(labels) + 1)


@dataclass(frozen=True)
class Decision:
    """How label logits become labels: the most probable one, or each one that reaches its threshold.

    >>> logits = np.array([[2.0, 1.0, -1.0]])
    >>> Decision().chosen(logits).tolist(), Decision(LabelKind.MULTI).chosen(logits).tolist()
    ([[True, False, False]], [[True, True, False]])

    Attributes:
        thresholds: least probability of each label a row has, in class order, or one for all; multi-label only.
    """

    kind: LabelKind = LabelKind.SINGLE
    thresholds: tuple[float, ...] = (0.5,)

    def chosen(self, logits: FloatArray) -> Chosen:
        """Return which labels each row is given, the shape of ``logits``."""
        if self.kind.multi:
            return self.kind.probabilities(logits) >= np.array(self.thresholds)
        return np.asarray(logits.argmax(-1)[..., None] == np.arange(logits.shape[-1]))

    def right(self, logits: FloatArray, targets: FloatArray) -> Chosen:
        """Return which rows are given their labels, all of them and no other, shape ``(rows,)``; arguments ``(rows, labels)``.

        Of candidates, several of which may be right, one of these has to be given.
        """
        chosen, gold = self.chosen(logits), targets > 0
        return np.asarray((chosen == gold).all(axis=-1) if self.kind.fixed else (chosen & gold).any(axis=-1))

    def accuracy(self, logits: FloatArray, targets: FloatArray) -> float:
        """Return the share of rows that are :meth:`right`."""
        return float(self.right(logits, targets).mean())

    def named(self, chosen: Chosen, labels: Sequence[str]) -> list[Any]:
        """Return the label of each row, or the list of its labels where it may have several, from ``chosen (rows, labels)``."""
        names = [[label for label, given in zip(labels, row, strict=True) if given] for row in chosen]
        return names if self.kind.multi else [name for (name,) in names]
