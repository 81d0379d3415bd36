"""What a model answers whatever the text says, taken off its answers.

Untrained, a masked language model favours some label words wherever it meets them. Calibration subtracts
that preference, the log-prior of the labels, from the label logits: ``z_y - log p(y)`` (Zhao et al. 2021,
"Calibrate Before Use", section 4). Where the preference is measured makes the difference:

- *contextual*: on texts without content (Zhao et al. 2021);
- *batch*: on the unlabelled set, taking its labels to be equally frequent (Zhou et al. 2023, "Batch Calibration").

Adding a constant to all logits of a row changes nothing, so logits may stand for log-probabilities here.
"""

from __future__ import annotations

import numpy as np

from petkit.ensemble.combine import FloatArray, log_softmax
from petkit.ensemble.priors import match_prior

# Zhao et al. 2021, section 5. "[MASK]" is text like any other; what the tokenizer makes of it is no mask.
CONTENT_FREE = ("N/A", "", "[MASK]")


def contextual_prior(content_free_logits: FloatArray, *, multi: bool = False) -> FloatArray:
    """Return the log of the mean prediction on texts without content (Zhao et al. 2021, section 4).

    Args:
        content_free_logits: label logits, shape ``(texts, labels)``.
        multi: the labels of a row are independent yes/no answers; their prior is then the mean logit.

    Returns:
        Log-prior of shape ``(labels,)``; its exponentials sum to 1 unless ``multi``.
    """
    if multi:
        return _mean_logit(content_free_logits)
    summed = np.logaddexp.reduce(log_softmax(content_free_logits.astype(np.float64)), axis=0)
    log_prior: FloatArray = (summed - np.log(len(content_free_logits))).astype(np.float32)
    return log_prior


def batch_prior(logits: FloatArray, *, multi: bool = False) -> FloatArray:
    """Return the log-prior without which the mean prediction is the same for every label.

    Zhou et al. (2023, equation 3) subtract the log of the mean prediction. That makes the means of the calibrated
    predictions more equal, but not equal: a preference that is strong enough survives it. Their step repeated until
    nothing changes is the solution ``b`` of ``mean_n softmax(z_n - b) = 1 / labels`` (Liusie et al. 2023, "Mitigating
    Word Bias in Zero-shot Prompt-based Classifiers", section 3), found by :func:`petkit.ensemble.priors.match_prior`.
    So a constant added to one label's logits in all rows, however large, changes no calibrated prediction.

    Args:
        logits: label logits of many rows, shape ``(rows, labels)``.
        multi: the labels of a row are independent yes/no answers; their prior is then the mean logit.

    Returns:
        Log-prior of shape ``(labels,)``; its exponentials sum to 1 unless ``multi``.
    """
    if multi:
        return _mean_logit(logits)
    log_probs = log_softmax(logits.astype(np.float64))
    centre = log_probs.mean(axis=0)  # (labels,): near the solution, and it follows a shift of any label exactly
    bias, _ = match_prior(lambda: [log_probs - centre], np.full(logits.shape[1], 1 / logits.shape[1]))
    log_prior: FloatArray = log_softmax(centre - bias).astype(np.float32)
    return log_prior


def calibrate(logits: FloatArray, log_prior: FloatArray) -> FloatArray:
    """Return ``logits (…, labels)`` without the preference ``log_prior (labels,)``."""
    calibrated: FloatArray = logits - log_prior
    return calibrated


def _mean_logit(logits: FloatArray) -> FloatArray:
    mean: FloatArray = logits.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean
