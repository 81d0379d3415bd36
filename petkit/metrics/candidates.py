"""Figures of rows whose answer is one of their own candidates, of which several may be right."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble import FloatArray, LabelKind, log_softmax
from petkit.metrics.bootstrap import wilson
from petkit.metrics.decision import Chosen, Decision
from petkit.metrics.groups import accuracy_interval, group_metrics
from petkit.metrics.metrics import Metrics, calibration_error

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class CandidateMetrics(Metrics):
    """Rows with candidates of their own. There are no labels, so that ``labels`` is empty and ``macro_f1`` is None.

    Attributes:
        accuracy: share of rows whose answer is right; ReCoRD and SQuAD call it exact match.
        nll: mean ``-log Σ p(right)`` per row in nats.
        brier: mean squared distance of probabilities and the right answers, which share 1 between them.
        answer_f1: mean over rows of the token F1 of the answer with the right one that is nearest (:func:`answer_f1`).
    """

    answer_f1: float


def evaluate_candidates(
    logits: FloatArray, targets: FloatArray, texts: Sequence[Sequence[str]], groups: NDArray[np.int64] | None = None
) -> CandidateMetrics:
    """Compare logits of candidates with the right ones.

    >>> found = evaluate_candidates(np.array([[2.0, 0.0]]), np.array([[1, 0]]), [["the cat", "a dog"]])
    >>> found.accuracy, found.answer_f1
    (1.0, 1.0)

    Args:
        logits: shape ``(rows, candidates)``, absent behind each row's last candidate.
        targets: 1 where a candidate is right, 0 elsewhere, shape ``(rows, candidates)``.
        texts: of each row's candidates.
        groups: the number of each row's group, rising, shape ``(rows,)``; None where rows stand alone.
    """
    decision, gold = Decision(LabelKind.CANDIDATES), targets > 0
    right, probabilities = decision.right(logits, targets), decision.kind.probabilities(logits)
    accuracy = float(right.mean())
    shares = gold / gold.sum(axis=1, keepdims=True)
    of_right = np.where(gold, log_softmax(logits).astype(np.float64), -np.inf)
    return CandidateMetrics(
        rows=len(gold),
        accuracy=accuracy,
        accuracy_interval=wilson(accuracy, len(gold)) if groups is None else accuracy_interval(right, groups),
        macro_f1=None,
        macro_f1_interval=None,
        nll=float(-np.logaddexp.reduce(of_right, axis=1).mean()),
        brier=float(((probabilities - shares) ** 2).sum(axis=1).mean()),
        ece=calibration_error(probabilities.max(axis=1), right),
        labels={},
        grouped=None if groups is None else group_metrics(right, groups),
        answer_f1=mean_answer_f1(decision.chosen(logits), gold, texts),
    )


def mean_answer_f1(chosen: Chosen, gold: Chosen, texts: Sequence[Sequence[str]]) -> float:
    """Return the mean :func:`answer_f1` of rows, of which ``chosen`` and ``gold`` have the shape ``(rows, candidates)``."""
    rows = zip(chosen, gold, texts, strict=True)
    found = [
        max(answer_f1(own[int(given.argmax())], own[number]) for number in np.flatnonzero(right).tolist())
        for given, right, own in rows
    ]
    return float(np.mean(found))


def answer_f1(answer: str, right: str) -> float:
    """Return the F1 of the words of an answer and a right one, without case, articles and punctuation (Rajpurkar et al. 2016).

    >>> answer_f1("the White House", "White House"), answer_f1("Donald Trump", "Trump")
    (1.0, 0.6666666666666666)
    """
    given, wanted = _words(answer), _words(right)
    shared = (given & wanted).total()
    return 2 * shared / (given.total() + wanted.total()) if shared else float(given == wanted)


def _words(text: str) -> Counter[str]:
    return Counter(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())
