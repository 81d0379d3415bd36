"""Calibration: subtract the model's label prior from its logits.

Untrained, a masked language model favours some label words regardless of the text. Calibration subtracts
that preference, the log-prior of the labels, from the label logits: ``z_y - log p(y)`` (Zhao et al. 2021,
"Calibrate Before Use", section 4). The methods differ in the texts on which the prior is estimated:

- *contextual*: content-free texts (Zhao et al. 2021);
- *batch*: the unlabelled set, assuming balanced labels (Zhou et al. 2023, "Batch Calibration").

Adding a constant to all logits of a row changes nothing, so logits may stand for log-probabilities here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from petkit.config.names import CALIBRATION_NAMES
from petkit.config.registry import Registry
from petkit.ensemble.label_kind import FloatArray, LabelKind, log_softmax
from petkit.ensemble.priors import match_prior

# Zhao et al. 2021, section 5. "[MASK]" is ordinary text here, not the tokenizer's mask.
CONTENT_FREE = ("N/A", "", "[MASK]")


@dataclass(frozen=True)
class TeacherScores:
    """Label logits of one teacher, at its temperature, from which a calibration may estimate its label prior.

    Attributes:
        labels: how many there are.
        content_free: reads the logits of the content-free texts, shape ``(texts, labels)``.
        unlabeled: reads those of the unlabelled set, from the first row at every call, in blocks ``(rows, labels)``.
    """

    kind: LabelKind
    labels: int
    content_free: Callable[[], FloatArray]
    unlabeled: Callable[[], Iterable[FloatArray]]


def contextual_prior(content_free_logits: FloatArray, kind: LabelKind = LabelKind.SINGLE) -> FloatArray:
    """Return the log of the mean prediction on content-free texts (Zhao et al. 2021, section 4).

    >>> np.exp(contextual_prior(np.log([[0.8, 0.2], [0.6, 0.4]]))).round(3).tolist()
    [0.7, 0.3]

    Args:
        content_free_logits: label logits, shape ``(texts, labels)``.
        kind: the prior of multi-label rows is the mean logit.

    Returns:
        Log-prior of shape ``(labels,)``; its exponentials sum to 1 unless multi-label.
    """
    if kind.multi:
        return _mean_logit(content_free_logits)
    summed = np.logaddexp.reduce(log_softmax(content_free_logits.astype(np.float64)), axis=0)
    log_prior: FloatArray = (summed - np.log(len(content_free_logits))).astype(np.float32)
    return log_prior


def batch_prior(logits: FloatArray, kind: LabelKind = LabelKind.SINGLE) -> FloatArray:
    """Return the log-prior without which the mean prediction is the same for every label.

    Zhou et al. (2023, equation 3) subtract the log of the mean prediction. That makes the means of the calibrated
    predictions more equal, but not equal: a strong preference survives it. Their step repeated until
    nothing changes is the solution ``b`` of ``mean_n softmax(z_n - b) = 1 / labels`` (Liusie et al. 2023, "Mitigating
    Word Bias in Zero-shot Prompt-based Classifiers", section 3), found by :func:`petkit.ensemble.priors.match_prior`.
    So a constant added to one label's logits in all rows, however large, changes no calibrated prediction.

    >>> np.exp(batch_prior(np.log([[0.9, 0.1], [0.5, 0.5]]))).round(2).tolist()
    [0.75, 0.25]

    Args:
        logits: label logits of many rows, shape ``(rows, labels)``.
        kind: the prior of multi-label rows is the mean logit.

    Returns:
        Log-prior of shape ``(labels,)``; its exponentials sum to 1 unless multi-label.
    """
    if kind.multi:
        return _mean_logit(logits)
    log_probs = log_softmax(logits.astype(np.float64))
    centre = log_probs.mean(axis=0)  # (labels,): near the solution, and it follows a shift of any label exactly
    bias, _ = match_prior(lambda: [log_probs - centre], np.full(logits.shape[1], 1 / logits.shape[1]))
    log_prior: FloatArray = log_softmax(centre - bias).astype(np.float32)
    return log_prior


def calibrate(logits: FloatArray, log_prior: FloatArray) -> FloatArray:
    """Return ``logits (…, labels)`` minus ``log_prior (labels,)``.

    >>> calibrate(np.array([[2.0, 1.0]]), np.array([1.5, 0.0])).tolist()
    [[0.5, 1.0]]
    """
    calibrated: FloatArray = logits - log_prior
    return calibrated


def _mean_logit(logits: FloatArray) -> FloatArray:
    mean: FloatArray = logits.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _contextual(scores: TeacherScores) -> FloatArray:
    return contextual_prior(scores.content_free(), scores.kind)


def _batch(scores: TeacherScores) -> FloatArray:
    """Return the same prior as :func:`batch_prior` (to rounding) block by block, for any number of rows."""
    bias, _ = match_prior(scores.unlabeled, np.full(scores.labels, 1 / scores.labels))
    log_prior: FloatArray = (-bias - np.logaddexp.reduce(-bias)).astype(np.float32)
    return log_prior


# From a teacher's scores: the log-prior over the labels, shape (labels,), to subtract from its logits.
Calibration: TypeAlias = Callable[[TeacherScores], FloatArray]

CALIBRATIONS: Final[Registry[Calibration | None]] = Registry(
    CALIBRATION_NAMES, {"none": None, "contextual": _contextual, "batch": _batch}
)
