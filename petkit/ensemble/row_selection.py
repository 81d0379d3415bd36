"""Which soft-labelled rows a student learns from, and their weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.label_kind import FloatArray, Floats, LabelKind, entropy, log_softmax
from petkit.storage.ragged import present


def confidence_weights(combined: FloatArray, kind: LabelKind = LabelKind.SINGLE) -> FloatArray:
    """Return the confidence ``1 - H / ln C``, shape ``(rows,)``, of the ensemble's label logits ``(rows, labels)``.

    C is the number of labels, or of the row's own candidates.

    H is the entropy at temperature 1: 1 where the ensemble is certain, 0 where all answers are equally likely. For
    multi-label rows H is the mean entropy of the yes/no answers and C is 2.

    >>> confidence_weights(np.array([[100.0, 0.0], [1.0, 1.0]])).tolist()
    [1.0, 0.0]
    """
    answers = kind.class_logits(combined)  # (rows, questions, answers)
    most_doubt = math.log(answers.shape[-1]) if kind.fixed else np.log(present(combined).sum(axis=-1))
    doubt = entropy(log_softmax(answers)).mean(axis=-1) / most_doubt
    return np.asarray(np.clip(1 - doubt, 0, 1), np.float32)


def best_probability(combined: FloatArray) -> Floats:
    """Return the probability of each row's best label at temperature 1, shape ``(rows,)``.

    ``1 / Σ exp(z - max z)`` in float64: exactly 1/2 where two labels tie, so that a threshold there is met.

    >>> best_probability(np.array([[1.0, 1.0], [0.0, np.log(3.0)]])).round(3).tolist()
    [0.5, 0.75]
    """
    logits = combined.astype(np.float64)
    return np.asarray(1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))


def choose_rows(
    winners: NDArray[np.integer], probability: Floats, *, min_probability: float, top_share: float
) -> NDArray[np.bool_]:
    """Return which rows to keep: probable enough, and among the most probable with the same label.

    Rows are given by their best label and its probability, both ``(rows,)``. Of the n rows of a label, the
    ``ceil(top_share · n)`` most probable are kept; of equal ones the first. The threshold does not change n, so the two
    options are independent. Takes some 30 bytes for each row of the most frequent label, and none for others.

    >>> choose_rows(np.array([0, 0, 1]), np.array([0.9, 0.7, 0.6]), min_probability=0.5, top_share=0.5).tolist()
    [True, False, True]
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
    """Return whether a label has too few rows to be learnt: under 1 % of all; beyond ten labels, under a tenth of an even share.

    >>> is_rare(9, total=1000, labels=3), is_rare(9, total=1000, labels=100)
    (True, False)
    """
    return rows < 0.01 * min(1.0, 10 / labels) * total
