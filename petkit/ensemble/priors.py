"""Class-prior matching: shift soft labels so that their mean is a given label distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from petkit.ensemble.label_kind import FloatArray

TOLERANCE = 1e-4
Shares = NDArray[np.float64]


def prior_shares(prior: Literal["uniform", "train"] | Mapping[str, float], labels: Sequence[str], gold: Sequence[int]) -> Shares:
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
    shares: Shares = wanted / wanted.sum()
    return shares


def match_prior(shards: Callable[[], Iterable[FloatArray]], shares: Shares) -> tuple[Shares, float]:
    """Return the bias of every label under which the mean soft label is ``shares``, and the largest remaining distance.

    >>> bias, distance = match_prior(lambda: [np.zeros((5, 2))], np.array([0.2, 0.8]))
    >>> (bias[1] - bias[0]).round(2) == np.log(4).round(2), distance < TOLERANCE
    (True, True)

    The bias b minimises the convex ``F(b) = mean_n logsumexp(z_n + b) - shares · b``. Its gradient is
    ``mean_n softmax(z_n + b) - shares``: at the minimum the means are met. (The textbook iteration for these
    equations, ``b ← b + log shares - log mean``, takes hundreds of passes where soft labels are sharp; L-BFGS takes
    some ten.) A share of 0 is met to within the tolerance.

    Args:
        shards: reads label logits z of all rows from the first at every call, in blocks of shape ``(rows, labels)``; each
            pass keeps one block in memory.
        shares: shape ``(labels,)``, summing to 1.

    Returns:
        The bias, shape ``(labels,)``, summing to 0; and the largest remaining distance, at most 1e-4 unless the search failed.
    """
    from scipy.optimize import minimize

    def loss(bias: Shares) -> tuple[float, Shares]:
        rows, value, total = 0, 0.0, np.zeros(len(shares))
        for logits in shards():
            shifted = logits + bias
            rows += len(shifted)
            value += float(logsumexp(shifted, axis=1).sum())
            total += softmax(shifted, axis=1).sum(axis=0)
        return value / rows - float(shares @ bias), total / rows - shares

    # Only the gradient says when to stop: ftol would, too early, where sharp rows make F nearly flat.
    found = minimize(loss, np.zeros(len(shares)), jac=True, method="L-BFGS-B", options={"gtol": TOLERANCE, "ftol": 0.0})
    bias: Shares = found.x - found.x.mean()
    return bias, float(np.abs(found.jac).max())
