"""The kinds of labels, and label logits read as answers to questions.

A row of one label is one question with an answer per label; a row of any number of labels is a yes/no question per label.
All computations of this package are written over ``(…, questions, answers)``, so that every kind shares them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]


class LabelKind(StrEnum):
    """One label per row, any number of them, one of an ordered scale, or one of the row's own candidates.

    >>> LabelKind("multi").class_logits(np.array([[1.5, -2.0]])).tolist()
    [[[0.0, 1.5], [0.0, -2.0]]]
    >>> LabelKind.SINGLE.choices(np.array([[1.5, -2.0, 3.0]])).tolist()
    [[2]]
    """

    SINGLE = "single"
    MULTI = "multi"
    ORDINAL = "ordinal"
    CANDIDATES = "candidates"

    @property
    def multi(self) -> bool:
        """Whether a row may have any number of labels."""
        return self is LabelKind.MULTI

    @property
    def fixed(self) -> bool:
        """Whether all rows have the same labels; else a row's logits are those of its candidates, then absent ones."""
        return self is not LabelKind.CANDIDATES

    def class_logits(self, logits: FloatArray) -> FloatArray:
        """Return label logits ``(…, labels)`` as logits of answers ``(…, questions, answers)``.

        A multi-label logit z is the log-odds of yes, so the logits of no and yes are 0 and z.
        """
        return np.stack([np.zeros_like(logits), logits], axis=-1) if self.multi else logits[..., None, :]

    def label_logits(self, class_logits: FloatArray) -> FloatArray:
        """Return logits of answers ``(…, questions, answers)`` as label logits ``(…, labels)``."""
        return class_logits[..., 1] - class_logits[..., 0] if self.multi else class_logits[..., 0, :]

    def choices(self, logits: FloatArray) -> NDArray[np.int64]:
        """Return the best answer to every question, ``(…, questions)``: the best label, or 1 (yes) for logits above 0."""
        return np.asarray(self.class_logits(logits).argmax(axis=-1))

    def probabilities(self, logits: FloatArray) -> Floats:
        """Return the probability of every label, the shape of ``logits``; they sum to 1 unless multi-label."""
        # -logaddexp(0, -z) is log σ(z), stable at any size.
        log_probs = -np.logaddexp(0, -logits.astype(np.float64)) if self.multi else log_softmax(logits).astype(np.float64)
        return np.asarray(np.exp(log_probs))


def log_softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Return ``log softmax(logits / temperature)`` over the last axis, stable at any size of logits.

    >>> np.exp(log_softmax(np.array([9.0, 5.0, 2.0]), temperature=10)).round(3).tolist()
    [0.461, 0.309, 0.229]
    """
    scaled = logits / np.float32(temperature)
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True)))


def entropy(log_probs: FloatArray) -> FloatArray:
    """Return the entropy over the last axis in nats.

    >>> float(entropy(np.log(np.array([0.25, 0.25, 0.25, 0.25]))).round(3))
    1.386
    """
    result: FloatArray = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    return result
