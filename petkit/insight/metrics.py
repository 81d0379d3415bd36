"""How good predictions are: accuracy, F1, calibration, and how sure one can be of it. Pure functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from petkit.lm.ensemble import log_softmax

BOOTSTRAPS = 2000
ECE_BINS = 15


@dataclass(frozen=True)
class LabelMetrics:
    """Precision, recall, F1 (0 where undefined) and the number of rows of one label."""

    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Metrics:
    """Every figure of one evaluation. ``confusion[i][j]`` counts rows of label i predicted as j."""

    rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    nll: float
    brier: float
    ece: float
    labels: dict[str, LabelMetrics]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def evaluate_logits(logits: NDArray[np.float32], gold: NDArray[np.int64], labels: tuple[str, ...]) -> Metrics:
    """Compare label logits with gold labels.

    Args:
        logits: shape ``(rows, labels)``, at least one row.
        gold: class indices, shape ``(rows,)``.
        labels: label names in class order.
    """
    predicted = logits.argmax(axis=1)
    log_probs = log_softmax(logits)
    classes = np.arange(len(labels))
    confusion = confusion_matrix(gold, predicted, labels=classes)
    precision, recall, f1, rows = precision_recall_fscore_support(gold, predicted, labels=classes, zero_division=0)
    accuracy_interval, f1_interval = bootstrap_intervals(confusion)
    per_label = {
        label: LabelMetrics(float(precision[index]), float(recall[index]), float(f1[index]), int(rows[index]))
        for index, label in enumerate(labels)
    }
    return Metrics(
        rows=len(gold),
        accuracy=float((predicted == gold).mean()),
        accuracy_interval=accuracy_interval,
        macro_f1=float(f1.mean()),
        macro_f1_interval=f1_interval,
        nll=negative_log_likelihood(log_probs, gold),
        brier=brier_score(log_probs, gold),
        ece=expected_calibration_error(log_probs, gold),
        labels=per_label,
        confusion=confusion.tolist(),
    )


def negative_log_likelihood(log_probs: NDArray[np.float32], gold: NDArray[np.int64]) -> float:
    """Return the mean of ``-log p(gold)`` in nats."""
    return float(-log_probs[np.arange(len(gold)), gold].mean(dtype=np.float64))


def brier_score(log_probs: NDArray[np.float32], gold: NDArray[np.int64]) -> float:
    """Return the mean squared distance between the probabilities and the gold label, summed over labels (0 to 2; Brier 1950)."""
    error = np.exp(log_probs.astype(np.float64))
    error[np.arange(len(gold)), gold] -= 1
    return float((error**2).sum(axis=1).mean())


def expected_calibration_error(log_probs: NDArray[np.float32], gold: NDArray[np.int64], bins: int = ECE_BINS) -> float:
    """Return the mean gap between confidence and accuracy over equally wide confidence bins (Guo et al. 2017, equation 3)."""
    confidence = np.exp(log_probs.max(axis=1).astype(np.float64))
    correct = log_probs.argmax(axis=1) == gold
    # A confidence on a bin's upper edge belongs to that bin.
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sums = np.bincount(index, weights=confidence, minlength=bins)
    hits = np.bincount(index, weights=correct, minlength=bins)
    return float(np.abs(sums - hits).sum() / len(gold))


def bootstrap_intervals(confusion: NDArray[np.int64], seed: int = 0) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return 95 % percentile bootstrap intervals of accuracy and macro-F1 over resampled rows.

    Rows matter only through their cell of the confusion matrix, so resampling rows is a multinomial
    draw of cells.
    """
    rows = int(confusion.sum())
    size = len(confusion)
    random = np.random.default_rng(seed)
    accuracies, scores = [], []
    # A few hundred tables at a time: many labels make large tables.
    chunk = max(1, min(BOOTSTRAPS, 4_000_000 // size**2))
    for start in range(0, BOOTSTRAPS, chunk):
        draws = min(chunk, BOOTSTRAPS - start)
        tables = random.multinomial(rows, confusion.reshape(-1) / rows, size=draws).reshape(draws, size, size)
        hits = np.diagonal(tables, axis1=1, axis2=2)  # (draws, labels)
        total = tables.sum(axis=1) + tables.sum(axis=2)
        accuracies.append(hits.sum(axis=1) / rows)
        scores.append((2 * hits / np.maximum(total, 1)).mean(axis=1))
    return _interval(np.concatenate(accuracies)), _interval(np.concatenate(scores))


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
