"""How sure a teacher really is: one temperature per teacher, from rows it was not trained on (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.combine import FloatArray, as_class_logits, log_softmax

LOWEST, HIGHEST = 0.5, 5.0
TRUSTED_ROWS = 50


def fit_temperature(logits: FloatArray, gold: NDArray[np.int64], *, multi: bool = False) -> float:
    """Return the temperature that makes held-out rows most likely, with caution where they are few.

    T̂ is the least of ``-mean log softmax(logits / T)[gold]`` in [0.5, 5]. That is convex in 1/T, so it has one
    valley, also over log T, where the search goes: halving and doubling are equally far from 1. Below 50 rows
    the result is drawn towards 1: ``T = 1 + min(1, rows / 50) · (T̂ - 1)``.

    Args:
        logits: label logits of rows the teacher was not trained on, shape ``(rows, labels)``.
        gold: the right answers, shape ``(rows, questions)``: the label; for multi-label rows 0 or 1 for every label.
    """
    from scipy.optimize import minimize_scalar

    answers = as_class_logits(logits.astype(np.float64), multi=multi)  # (rows, questions, answers)

    def loss(log_temperature: float) -> float:
        log_probs = log_softmax(answers, math.exp(log_temperature))
        return -float(np.take_along_axis(log_probs, gold[..., None], axis=-1).mean())

    found = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return 1 + min(1.0, len(logits) / TRUSTED_ROWS) * (math.exp(float(found.x)) - 1)
