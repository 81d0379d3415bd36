"""Accuracy, F1, probability scores and calibration error, with bootstrap intervals. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble import FloatArray, LabelKind, log_softmax
from petkit.metrics.decision import Chosen, Decision

BOOTSTRAPS = 2000
ECE_BINS = 15

Labels: TypeAlias = NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class LabelMetrics:
    """Precision, recall, F1 (0 where undefined) and the number of rows of one label."""

    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Metrics:
    """The figures of every evaluation, as ``metrics.json`` stores them.

    Attributes:
        accuracy: share of rows with the right label; with several labels per row, all of them and no other (subset accuracy).
        nll: mean ``-log p(gold)`` per row in nats; with several labels per row, the sum over the labels' yes or no.
        brier: mean squared distance of probabilities and gold, summed over labels.
        ece: expected calibration error of the answers; with several labels per row, of every yes and no.
    """

    rows: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    nll: float
    brier: float
    ece: float
    labels: dict[str, LabelMetrics]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SingleLabelMetrics(Metrics):
    """Rows of one label. ``confusion[i][j]`` counts rows of label i predicted as j."""

    confusion: list[list[int]]


@dataclass(frozen=True)
class OrdinalMetrics(SingleLabelMetrics):
    """Rows with a place on a scale from 0, in steps of 1.

    Attributes:
        mae: mean distance of the most probable label from gold.
        expected_mae: mean distance of the expected label ``Σ p_i i`` from gold.
        quadratic_kappa: agreement beyond chance, errors weighed by their square (Cohen 1968); 0 where undefined.
    """

    mae: float
    expected_mae: float
    quadratic_kappa: float


@dataclass(frozen=True)
class MultiLabelMetrics(Metrics):
    """Rows of any number of labels.

    Attributes:
        micro_f1: F1 of all yes decisions together; 0 where undefined.
        label_accuracy: share of right decisions, mean over labels.
    """

    micro_f1: float
    micro_f1_interval: Interval
    label_accuracy: float


def evaluate(logits: FloatArray, targets: FloatArray, labels: tuple[str, ...], decision: Decision) -> Metrics:
    """Compare label logits with gold labels of any kind.

    >>> logits, targets = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1, 0], [1, 0]])
    >>> evaluate(logits, targets, ("spam", "other"), Decision()).accuracy
    0.5

    Args:
        logits: shape ``(rows, labels)``, at least one row.
        targets: 1 where a row has a label, 0 elsewhere, shape ``(rows, labels)``.
        labels: label names in class order.
    """
    if decision.kind.multi:
        return evaluate_multi_label(logits, targets, labels, decision)
    gold = targets.argmax(axis=1)
    return (evaluate_ordinal if decision.kind is LabelKind.ORDINAL else evaluate_logits)(logits, gold, labels)


def evaluate_logits(logits: FloatArray, gold: Labels, labels: tuple[str, ...]) -> SingleLabelMetrics:
    """Compare label logits with one gold label per row.

    Args:
        logits: shape ``(rows, labels)``, at least one row.
        gold: class indices, shape ``(rows,)``.
        labels: label names in class order.
    """
    return SingleLabelMetrics(**_of_one_label(logits, gold, labels))


def evaluate_ordinal(logits: FloatArray, gold: Labels, labels: tuple[str, ...]) -> OrdinalMetrics:
    """Compare label logits with one gold place per row on the scale ``0 … labels - 1``; arguments as above."""
    from sklearn.metrics import cohen_kappa_score

    predicted = logits.argmax(axis=1)
    places = np.arange(len(labels))
    expected = LabelKind.ORDINAL.probabilities(logits) @ places  # (rows,)
    undefined = (predicted == predicted[0]).all() and (gold == predicted[0]).all()  # one place only: chance is perfect
    kappa = 0.0 if undefined else cohen_kappa_score(gold, predicted, labels=places, weights="quadratic")
    return OrdinalMetrics(
        **_of_one_label(logits, gold, labels),
        mae=float(np.abs(predicted - gold).mean()),
        expected_mae=float(np.abs(expected - gold).mean()),
        quadratic_kappa=float(kappa),
    )


def _of_one_label(logits: FloatArray, gold: Labels, labels: tuple[str, ...]) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix

    predicted = logits.argmax(axis=1)
    log_probs = log_softmax(logits)
    confusion = confusion_matrix(gold, predicted, labels=np.arange(len(labels)))
    per_label, macro_f1 = _per_label(gold, predicted, labels)
    accuracy_interval, f1_interval = bootstrap_intervals(confusion)
    return {
        "rows": len(gold),
        "accuracy": float((predicted == gold).mean()),
        "accuracy_interval": accuracy_interval,
        "macro_f1": macro_f1,
        "macro_f1_interval": f1_interval,
        "nll": negative_log_likelihood(log_probs, gold),
        "brier": brier_score(log_probs, gold),
        "ece": expected_calibration_error(log_probs, gold),
        "labels": per_label,
        "confusion": confusion.tolist(),
    }


def evaluate_multi_label(
    logits: FloatArray, targets: FloatArray, labels: tuple[str, ...], decision: Decision
) -> MultiLabelMetrics:
    """Compare label logits with any number of gold labels per row; arguments as for :func:`evaluate`."""
    gold, chosen = targets > 0, decision.chosen(logits)
    probabilities = decision.kind.probabilities(logits)
    per_label, macro_f1 = _per_label(gold, chosen, labels)
    accuracy_interval, micro_interval, macro_interval = bootstrap_decisions(chosen, gold)
    scores = logits.astype(np.float64)
    return MultiLabelMetrics(
        rows=len(gold),
        accuracy=decision.accuracy(logits, targets),
        accuracy_interval=accuracy_interval,
        macro_f1=macro_f1,
        macro_f1_interval=macro_interval,
        nll=float((np.logaddexp(0, scores) - gold * scores).sum(axis=1).mean()),
        brier=float(((probabilities - gold) ** 2).sum(axis=1).mean()),
        ece=_calibration_error(np.where(chosen, probabilities, 1 - probabilities).ravel(), (chosen == gold).ravel(), ECE_BINS),
        labels=per_label,
        micro_f1=float(2 * (chosen & gold).sum() / max(1, chosen.sum() + gold.sum())),
        micro_f1_interval=micro_interval,
        label_accuracy=float((chosen == gold).mean()),
    )


def _per_label(gold: Any, predicted: Any, labels: tuple[str, ...]) -> tuple[dict[str, LabelMetrics], float]:
    """Return precision, recall, F1 and rows of each label, and the mean F1."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(gold, predicted, labels=np.arange(len(labels)), average=None, zero_division=0)
    rows = zip(labels, *(column.tolist() for column in columns), strict=True)
    figures = {label: LabelMetrics(precision, recall, f1, count) for label, precision, recall, f1, count in rows}
    return figures, float(columns[2].mean())


def negative_log_likelihood(log_probs: FloatArray, gold: Labels) -> float:
    """Return the mean of ``-log p(gold)`` in nats."""
    return float(-log_probs[np.arange(len(gold)), gold].mean(dtype=np.float64))


def brier_score(log_probs: FloatArray, gold: Labels) -> float:
    """Return the mean squared distance between the probabilities and the gold label, summed over labels (0 to 2; Brier 1950)."""
    error = np.exp(log_probs.astype(np.float64))
    error[np.arange(len(gold)), gold] -= 1
    return float((error**2).sum(axis=1).mean())


def expected_calibration_error(log_probs: FloatArray, gold: Labels, bins: int = ECE_BINS) -> float:
    """Return the mean gap between confidence and accuracy over equally wide confidence bins (Guo et al. 2017, equation 3)."""
    confidence = np.exp(log_probs.max(axis=1).astype(np.float64))
    return _calibration_error(confidence, log_probs.argmax(axis=1) == gold, bins)


def _calibration_error(confidence: NDArray[np.float64], correct: Chosen, bins: int) -> float:
    # A confidence on a bin's upper edge belongs to that bin.
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sums = np.bincount(index, weights=confidence, minlength=bins)
    hits = np.bincount(index, weights=correct, minlength=bins)
    return float(np.abs(sums - hits).sum() / len(confidence))


def bootstrap_intervals(confusion: Labels, seed: int = 0) -> tuple[Interval, Interval]:
    """Return 95 % percentile bootstrap intervals of accuracy and macro-F1 over resampled rows of one label."""
    rows, size = int(confusion.sum()), len(confusion)
    accuracies, scores = [], []
    for draws in _resampled(confusion.reshape(-1), seed):
        tables = draws.reshape(-1, size, size)
        hits = np.diagonal(tables, axis1=1, axis2=2)  # (draws, labels)
        total = tables.sum(axis=1) + tables.sum(axis=2)
        accuracies.append(hits.sum(axis=1) / rows)
        scores.append((2 * hits / np.maximum(total, 1)).mean(axis=1))
    return _interval(accuracies), _interval(scores)


def bootstrap_decisions(chosen: Chosen, gold: Chosen, seed: int = 0) -> tuple[Interval, Interval, Interval]:
    """Return 95 % percentile bootstrap intervals of subset accuracy, micro-F1 and macro-F1 over resampled rows.

    Args:
        chosen: the labels given to each row, shape ``(rows, labels)``.
        gold: the labels each row has, same shape.
    """
    outcomes, counts = np.unique(np.hstack([chosen, gold]), axis=0, return_counts=True)
    chosen, gold = np.hsplit(outcomes, 2)  # (outcomes, labels)
    # As floats: numpy multiplies whole numbers slowly, and these are exact.
    right, both, either = (chosen == gold).all(axis=1).astype(float), (chosen & gold).astype(float), chosen.astype(float) + gold
    accuracies, micro, macro = [], [], []
    for draws in _resampled(counts, seed):
        hits, total = draws @ both, draws @ either  # (draws, labels)
        accuracies.append(draws @ right / counts.sum())
        micro.append(2 * hits.sum(axis=1) / np.maximum(total.sum(axis=1), 1))
        macro.append((2 * hits / np.maximum(total, 1)).mean(axis=1))
    return _interval(accuracies), _interval(micro), _interval(macro)


def _resampled(counts: Labels, seed: int) -> Iterator[Labels]:
    """Yield how often each outcome occurs among rows drawn with replacement, shape ``(draws, outcomes)``.

    Rows matter only through their outcome, so drawing rows is a multinomial draw of outcomes.
    """
    random = np.random.default_rng(seed)
    rows = int(counts.sum())
    # A few hundred draws at a time: many labels make many outcomes.
    chunk = max(1, min(BOOTSTRAPS, 4_000_000 // len(counts)))
    for start in range(0, BOOTSTRAPS, chunk):
        yield random.multinomial(rows, counts / rows, size=min(chunk, BOOTSTRAPS - start))


def _interval(values: list[NDArray[np.float64]]) -> Interval:
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return float(low), float(high)
