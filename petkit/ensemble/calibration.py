"""Calibration of teachers and of their ensemble: label priors, temperatures, and a given label distribution.

Untrained, a masked language model favours some label words regardless of the text. Calibration subtracts
that preference, the log-prior of the labels, from the label logits: ``z_y - log p(y)`` (Zhao et al. 2021,
"Calibrate Before Use", section 4). The methods differ in the texts on which the prior is estimated:

- *contextual*: content-free texts (Zhao et al. 2021);
- *batch*: the unlabelled set, assuming balanced labels (Zhou et al. 2023, "Batch Calibration").

Adding a constant to all logits of a row changes nothing, so logits may stand for log-probabilities here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from petkit.config.registry import CALIBRATION_NAMES, Registry
from petkit.ensemble.label_kind import FloatArray, Floats, LabelKind, log_softmax

# Zhao et al. 2021, section 5. "[MASK]" is ordinary text here, not the tokenizer's mask.
CONTENT_FREE = ("N/A", "", "[MASK]")
# How near the mean soft label must come to a given label distribution.
TOLERANCE = 1e-4
LOWEST, HIGHEST = 0.5, 5.0
TRUSTED_ROWS = 50


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

    From logits ``(texts, labels)`` to a log-prior ``(labels,)``, its exponentials summing to 1; multi-label: the mean logit.

    >>> np.exp(contextual_prior(np.log([[0.8, 0.2], [0.6, 0.4]]))).round(3).tolist()
    [0.7, 0.3]
    """
    if kind.multi:
        return _mean_logit(content_free_logits)
    summed = np.logaddexp.reduce(log_softmax(content_free_logits.astype(np.float64)), axis=0)
    return np.asarray(summed - np.log(len(content_free_logits)), np.float32)


def batch_prior(logits: FloatArray, kind: LabelKind = LabelKind.SINGLE) -> FloatArray:
    """Return the log-prior without which the mean prediction is the same for every label.

    Zhou et al. (2023, equation 3) subtract the log of the mean prediction. That makes the means of the calibrated
    predictions more equal, but not equal: a strong preference survives it. Their step repeated until
    nothing changes is the solution ``b`` of ``mean_n softmax(z_n - b) = 1 / labels`` (Liusie et al. 2023, "Mitigating
    Word Bias in Zero-shot Prompt-based Classifiers", section 3), found by :func:`match_prior`.
    So a constant added to one label's logits in all rows, however large, changes no calibrated prediction.
    Shapes and multi-label rows as for :func:`contextual_prior`.

    >>> np.exp(batch_prior(np.log([[0.9, 0.1], [0.5, 0.5]]))).round(2).tolist()
    [0.75, 0.25]
    """
    if kind.multi:
        return _mean_logit(logits)
    log_probs = log_softmax(logits.astype(np.float64))
    centre = log_probs.mean(axis=0)  # (labels,): near the solution, and it follows a shift of any label exactly
    bias, _ = match_prior(lambda: [log_probs - centre], np.full(logits.shape[1], 1 / logits.shape[1]))
    return log_softmax(centre - bias).astype(np.float32)


def calibrate(logits: FloatArray, log_prior: FloatArray) -> FloatArray:
    """Return ``logits (…, labels)`` minus ``log_prior (labels,)``.

    >>> calibrate(np.array([[2.0, 1.0]]), np.array([1.5, 0.0])).tolist()
    [[0.5, 1.0]]
    """
    return logits - log_prior


def fit_temperature(logits: FloatArray, gold: NDArray[np.int64], kind: LabelKind = LabelKind.SINGLE) -> float:
    """Return the temperature that maximises the likelihood of held-out rows (Guo et al. 2017, section 4.2).

    >>> right, wrong = [[2.0, 0.0]], [[0.0, 2.0]]
    >>> round(fit_temperature(np.array(75 * right + 25 * wrong), np.zeros((100, 1), int)), 2)  # softmax(2 / 1.82) is 0.75
    1.82

    T̂ minimises ``-mean log softmax(logits / T)[gold]`` in [0.5, 5]. That is convex in 1/T, so it has one
    minimum, also over log T, where halving and doubling are equally far from 1. Below 50 rows
    the result is shrunk towards 1: ``T = 1 + min(1, rows / 50) · (T̂ - 1)``.

    Args:
        logits: label logits of rows the teacher was not trained on, shape ``(rows, labels)``.
        gold: the right answers, shape ``(rows, questions)``: the label; for multi-label rows 0 or 1 for every label.
    """
    from scipy.optimize import minimize_scalar

    answers = kind.class_logits(logits.astype(np.float64))  # (rows, questions, answers)

    def loss(log_temperature: float) -> float:
        log_probs = log_softmax(answers, math.exp(log_temperature))
        return -float(np.take_along_axis(log_probs, gold[..., None], axis=-1).mean())

    found = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return 1 + min(1.0, len(logits) / TRUSTED_ROWS) * (math.exp(float(found.x)) - 1)


def prior_shares(prior: Literal["uniform", "train"] | Mapping[str, float], labels: Sequence[str], gold: Sequence[int]) -> Floats:
    """Return the wanted share of every label, shape ``(labels,)``, summing to 1.

    >>> prior_shares({"spam": 1, "other": 3}, ["spam", "other"], gold=[]).tolist()
    [0.25, 0.75]

    Args:
        prior: equal shares; those of the labelled rows; or label → share in any unit.
        labels: all labels in class order.
        gold: the labels of the labelled rows, read for ``train`` only.
    """
    if prior == "uniform":
        wanted = np.ones(len(labels))
    elif isinstance(prior, Mapping):
        wanted = np.array([prior[label] for label in labels], np.float64)
    else:
        wanted = np.bincount(gold, minlength=len(labels)).astype(np.float64)
    return np.asarray(wanted / wanted.sum())


def match_prior(shards: Callable[[], Iterable[FloatArray]], shares: Floats) -> tuple[Floats, float]:
    """Return the bias ``(labels,)``, summing to 0, that makes the mean soft label ``shares``, and the largest remaining distance.

    >>> bias, distance = match_prior(lambda: [np.zeros((5, 2))], np.array([0.2, 0.8]))
    >>> (bias[1] - bias[0]).round(2) == np.log(4).round(2), distance < TOLERANCE
    (True, True)

    The bias b minimises the convex ``F(b) = mean_n logsumexp(z_n + b) - shares · b``. Its gradient is
    ``mean_n softmax(z_n + b) - shares``: at the minimum the means are met. (The textbook iteration for these
    equations, ``b ← b + log shares - log mean``, takes hundreds of passes where soft labels are sharp; L-BFGS takes
    some ten.) A share of 0 is met to within the tolerance of 1e-4; a larger distance means that the search failed.

    Args:
        shards: reads label logits z of all rows from the first at every call, in blocks ``(rows, labels)`` (one in memory).
        shares: shape ``(labels,)``, summing to 1.
    """
    from scipy.optimize import minimize

    def loss(bias: Floats) -> tuple[float, Floats]:
        rows, value, total = 0, 0.0, np.zeros(len(shares))
        for logits in shards():
            shifted = logits + bias
            rows += len(shifted)
            value += float(logsumexp(shifted, axis=1).sum())
            total += softmax(shifted, axis=1).sum(axis=0)
        return value / rows - float(shares @ bias), total / rows - shares

    # Only the gradient says when to stop: ftol would, too early, where sharp rows make F nearly flat.
    found = minimize(loss, np.zeros(len(shares)), jac=True, method="L-BFGS-B", options={"gtol": TOLERANCE, "ftol": 0.0})
    bias: Floats = found.x - found.x.mean()
    return bias, float(np.abs(found.jac).max())


def _mean_logit(logits: FloatArray) -> FloatArray:
    return np.asarray(logits.mean(axis=0, dtype=np.float64), np.float32)


def _batch(scores: TeacherScores) -> FloatArray:
    """Return the same prior as :func:`batch_prior` (to rounding) block by block, for any number of rows."""
    bias, _ = match_prior(scores.unlabeled, np.full(scores.labels, 1 / scores.labels))
    return np.asarray(-bias - np.logaddexp.reduce(-bias), np.float32)


# From a teacher's scores: the log-prior over the labels, shape (labels,), to subtract from its logits.
Calibration: TypeAlias = Callable[[TeacherScores], FloatArray]

CALIBRATIONS: Final[Registry[Calibration | None]] = Registry(
    CALIBRATION_NAMES,
    {"none": None, "contextual": lambda scores: contextual_prior(scores.content_free(), scores.kind), "batch": _batch},
)
