"""Many teachers, one soft label: combining label logits (PET, section 3.3, equation 3)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def combine(logits: FloatArray, weights: FloatArray, how: Literal["logits", "log_probs", "probs"]) -> FloatArray:
    """Return the ensemble's label logits: the weighted mean over teachers.

    ``logits`` averages raw logits (the paper; a much sharper teacher dominates), ``log_probs`` the
    log-probabilities (a normalised geometric mean), ``probs`` the probabilities (each teacher has one vote).

    Args:
        logits: shape ``(teachers, rows, labels)``.
        weights: shape ``(teachers,)``, not negative; normalised here to sum to 1.

    Returns:
        Scores of shape ``(rows, labels)``; their softmax is the ensemble's distribution.
    """
    share = (weights / weights.sum()).astype(np.float32)
    combined: FloatArray
    if how != "probs":
        combined = np.einsum("k,knc->nc", share, logits if how == "logits" else log_softmax(logits))
        return combined
    with np.errstate(divide="ignore"):  # a teacher of weight 0 has no say
        weighted = log_softmax(logits) + np.log(share)[:, None, None]
    combined = np.logaddexp.reduce(weighted, axis=0)
    return combined


def log_softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Return ``log softmax(logits / temperature)`` over the last axis, stable at any size of logits."""
    scaled = logits / np.float32(temperature)
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    result: FloatArray = scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
    return result


def entropy(log_probs: FloatArray) -> FloatArray:
    """Return the entropy of each row in nats, shape ``(rows,)``."""
    result: FloatArray = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    return result


def agreement(logits: FloatArray, combined: FloatArray) -> FloatArray:
    """Return the share of teachers that choose the ensemble's label, per row, shape ``(rows,)``."""
    share: FloatArray = (logits.argmax(-1) == combined.argmax(-1)).mean(axis=0, dtype=np.float32)
    return share


def teacher_weights(untrained_accuracies: list[float], weighting: Literal["uniform", "train_accuracy"]) -> FloatArray:
    """Return the ensemble weights: all equal, or each teacher's accuracy on the few-shot examples before training.

    Falls back to equal weights where every accuracy is 0.
    """
    accuracies = np.asarray(untrained_accuracies, np.float32)
    if weighting == "uniform" or not accuracies.any():
        return np.ones(len(accuracies), np.float32)
    return accuracies
