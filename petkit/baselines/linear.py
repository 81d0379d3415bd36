"""Logistic regression on fixed features of the rows, its strength of regularisation cross-validated within the labelled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from petkit.baselines.majority import majority_logits
from petkit.ensemble import FloatArray, LabelKind

# Inverse strengths of regularisation, the strongest first: of equally good ones the first is taken.
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
# Where a label has one row nothing can be cross-validated; normalised counts want little regularisation.
_UNTESTED_STRENGTH = 10.0
_FOLDS = 5
_TINY = np.finfo(np.float32).tiny


def linear_logits(known: Any, targets: FloatArray, new: Any, kind: LabelKind = LabelKind.SINGLE) -> tuple[FloatArray, Any]:
    """Fit features ``known (n, features)`` with ``targets (n, labels)``; return logits ``(rows, labels)`` of ``new (rows, features)``.

    The regularisation is the one with the best cross-validated likelihood; it is returned too. Several labels: one regression,
    and one strength, per label (None where all labelled rows, or none, have the label).
    """
    if not kind.multi:
        model, strength = _regression(known, targets.argmax(axis=1))
        return log_shares(model.predict_proba(new), model.classes_, targets.shape[1]), strength
    logits = majority_logits(targets, new.shape[0], kind)
    strengths: list[float | None] = [None] * targets.shape[1]
    for label in np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0)):  # the others have nothing to tell apart
        model, strengths[label] = _regression(known, targets[:, label].astype(np.int64))
        logits[:, label] = model.decision_function(new)
    return logits, strengths


def log_shares(probabilities: NDArray[Any], classes: NDArray[np.int64], labels: int) -> FloatArray:
    """Return finite log-probabilities of all labels, shape ``(rows, labels)``; labels without a class have hardly any."""
    shares = np.full((len(probabilities), labels), _TINY, np.float32)
    shares[:, classes] = np.maximum(probabilities, _TINY)
    return np.log(shares)


# Several threads add up in another order.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _regression(features: Any, labels: NDArray[np.int64]) -> tuple[Any, float]:
    """Return a fitted model and its inverse strength of regularisation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    folds = min(_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2:
        return LogisticRegression(C=_UNTESTED_STRENGTH, max_iter=1000).fit(features, labels), _UNTESTED_STRENGTH
    search = GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": STRENGTHS},
        scoring="neg_log_loss",  # on a few rows most strengths are equally accurate
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
    ).fit(features, labels)
    return search.best_estimator_, float(search.best_params_["C"])
