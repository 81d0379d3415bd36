"""From label logits to answers: one label per row, the labels it has, or a place on a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble import FloatArray, LabelKind

Chosen: TypeAlias = NDArray[np.bool_]


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

    def accuracy(self, logits: FloatArray, targets: FloatArray) -> float:
        """Return the share of rows that are given their labels, all of them and no other; arguments ``(rows, labels)``."""
        return float((self.chosen(logits) == (targets > 0)).all(axis=-1).mean())

    def named(self, chosen: Chosen, labels: Sequence[str]) -> list[Any]:
        """Return the label of each row, or the list of its labels where it may have several, from ``chosen (rows, labels)``."""
        names = [[label for label, given in zip(labels, row, strict=True) if given] for row in chosen]
        return names if self.kind.multi else [name for (name,) in names]
