"""Temperature scaling: one temperature per teacher, fitted on rows held out of its training (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.label_kind import FloatArray, LabelKind, log_softmax

LOWEST, HIGHEST = 0.5, 5.0
TRUSTED_ROWS = 50


def fit_temperature(logits: FloatArray, gold: NDArray[np.int64], kind: LabelKind = LabelKind.SINGLE) -> float:
    """Return the temperature that maximises the likelihood of held-out rows, shrunk towards 1 where they are few.

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
