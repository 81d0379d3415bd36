"""Which soft-labelled rows a student should learn from, and how much of each."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.combine import FloatArray, as_class_logits, entropy, log_softmax


def confidence_weights(combined: FloatArray, *, multi: bool = False) -> FloatArray:
    """Return how sure the ensemble is of each row: ``1 - H / ln C`` with the entropy H of its distribution at temperature 1.

    1 where it is certain, 0 where all answers are equally likely. For multi-label rows H is the mean entropy of the
    yes/no answers and C is 2.

    Args:
        combined: the ensemble's label logits, shape ``(rows, labels)``.

    Returns:
        Shape ``(rows,)``, between 0 and 1.
    """
    answers = as_class_logits(combined, multi=multi)  # (rows, questions, answers)
    doubt = entropy(log_softmax(answers)).mean(axis=-1) / math.log(answers.shape[-1])
    weights: FloatArray = np.clip(1 - doubt, 0, 1).astype(np.float32)
    return weights


def best_probability(combined: FloatArray) -> NDArray[np.float64]:
    """Return the probability of each row's best label at temperature 1, shape ``(rows,)``.

    ``1 / Σ exp(z - max z)`` in float64: exactly 1/2 where two labels tie, so that a threshold there is met.
    """
    logits = combined.astype(np.float64)
    probability: NDArray[np.float64] = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    return probability


def choose_rows(
    winners: NDArray[np.integer], probability: NDArray[np.float64], *, min_probability: float, top_share: float
) -> NDArray[np.bool_]:
    """Say which rows to keep: sure enough, and among the surest of those with the same label.

    Of the n rows a label wins, the ``ceil(top_share · n)`` most probable are kept; of equal ones the first. The
    threshold does not change n, so the two options do not depend on each other. Needs some 30 bytes for each row of the
    most frequent label, and none for others.

    Args:
        winners: best label of each row, shape ``(rows,)``.
        probability: of that label, shape ``(rows,)``.

    Returns:
        Shape ``(rows,)``.
    """
    keep: NDArray[np.bool_] = probability >= min_probability
    for label in range(int(winners.max()) + 1 if top_share < 1 else 0):
        own = np.flatnonzero(winners == label)
        # 0.07 · 100 is a little more than 7 in binary, which must not make 8 of it.
        quota = math.ceil(round(top_share * len(own), 9))
        surest_first = np.argsort(-probability[own], kind="stable")
        keep[own[surest_first[quota:]]] = False
    return keep


def is_rare(rows: int, total: int, labels: int) -> bool:
    """Say whether a label has too few rows to be learnt: under 1 % of all; beyond ten labels, under a tenth of an even share."""
    return rows < 0.01 * min(1.0, 10 / labels) * total
