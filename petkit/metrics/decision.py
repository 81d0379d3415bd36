"""From label logits to answers: one label per row, the labels it has, or a place on a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.config.schema import LabelKind
from petkit.ensemble.combine import FloatArray, log_softmax

Chosen: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Decision:
    """How label logits are read.

    Rows of one label share a softmax, and the most probable label wins. Where a row may have several
    labels, each is a yes/no question of its own: the logistic function gives its probability.

    Attributes:
        thresholds: from which probability on a row has each label, in class order, or one for all; ``multi`` only.
    """

    kind: LabelKind = "single"
    thresholds: tuple[float, ...] = (0.5,)

    def probabilities(self, logits: FloatArray) -> NDArray[np.float64]:
        """Return the probability of every label, the shape of ``logits``: ``(…, labels)``."""
        probabilities: NDArray[np.float64]
        if self.kind == "multi":  # σ(z), stable at any size
            probabilities = np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
        else:
            probabilities = np.exp(log_softmax(logits).astype(np.float64))
        return probabilities

    def chosen(self, logits: FloatArray) -> Chosen:
        """Return which labels each row is given, the shape of ``logits``."""
        if self.kind == "multi":
            return self.probabilities(logits) >= np.array(self.thresholds)
        winners: Chosen = logits.argmax(-1)[..., None] == np.arange(logits.shape[-1])
        return winners

    def accuracy(self, logits: FloatArray, targets: FloatArray) -> float:
        """Return the share of rows, shape ``(rows, labels)``, that are given their labels, all of them and no other."""
        return float((self.chosen(logits) == (targets > 0)).all(axis=-1).mean())

    def named(self, chosen: Chosen, labels: Sequence[str]) -> list[Any]:
        """Return the label of each row, or the list of its labels where it may have several.

        Args:
            chosen: which labels each row has, shape ``(rows, labels)``.
            labels: all labels in class order.
        """
        names = [[label for label, given in zip(labels, row, strict=True) if given] for row in chosen]
        return names if self.kind == "multi" else [name for (name,) in names]
