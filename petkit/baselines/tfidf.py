"""Logistic regression on the TF-IDF of words and characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from petkit.baselines.base import Answer, Baseline, targets, texts
from petkit.baselines.majority import majority_logits
from petkit.ensemble import FloatArray, LabelKind

# A mark or an emoji is a word too: a row may consist of nothing else.
_WORD = r"(?u)\w+|[^\w\s]"
# Inverse strengths of regularisation, the strongest first: of equally good ones the first is taken.
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
# Where a label has one row nothing can be cross-validated; normalised counts want little regularisation.
_UNTESTED_STRENGTH = 10.0
_FOLDS = 5
_TINY = np.finfo(np.float32).tiny


def tfidf_logits(texts: Sequence[str], targets: FloatArray, unseen: Sequence[str], kind: LabelKind = LabelKind.SINGLE) -> Answer:
    """Train a logistic regression on the TF-IDF of ``texts`` with ``targets (texts, labels)``, and apply it to ``unseen`` ones.

    Words alone and in pairs; one to five characters inside words, for endings, misspellings
    and languages without spaces. The regularisation is the one with the best cross-validated
    likelihood within ``texts``. Several labels: one regression per label.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=_WORD, sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True)
    counted = make_union(words, characters)
    known, new = counted.fit_transform(texts), counted.transform(unseen)
    settings: dict[str, Any] = {"words": [1, 2], "characters": [1, 5], "features": int(known.shape[1])}
    if not kind.multi:
        model, settings["C"] = _regression(known, targets.argmax(axis=1))
        return log_shares(model.predict_proba(new), model.classes_, targets.shape[1]), settings
    logits = majority_logits(targets, len(unseen), kind)
    settings["C"] = [None] * targets.shape[1]
    for label in np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0)):  # the others have nothing to tell apart
        model, settings["C"][label] = _regression(known, targets[:, label].astype(np.int64))
        logits[:, label] = model.decision_function(new)
    return logits, settings


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


TFIDF = Baseline(
    lambda task, device, job: tfidf_logits(texts(task, "train"), targets(task), texts(task, "test"), task.label_kind),
)
