"""Accuracy, F1, probability scores and calibration error, with 95 % intervals. Pure functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble import FloatArray, LabelKind, log_softmax
from petkit.ensemble.label_kind import Floats
from petkit.metrics.bootstrap import Interval, bootstrap_confusion, bootstrap_decisions, wilson
from petkit.metrics.decision import Chosen, Decision, scale_of
from petkit.metrics.groups import GroupMetrics, accuracy_interval, f1_intervals, group_metrics

ECE_BINS = 15


@dataclass(frozen=True)
class LabelMetrics:
    """Precision, recall, F1 and the number of rows of one label; None where it neither occurs nor is predicted, else 0 for 0/0."""

    precision: float | None
    recall: float | None
    f1: float | None
    rows: int


@dataclass(frozen=True)
class Metrics:
    """The figures of every evaluation, as ``metrics.json`` stores them.

    Attributes:
        accuracy: share of rows with the right label; with several labels per row, all of them and no other (subset accuracy).
        macro_f1: mean over the labels that occur or are predicted; None where there is none.
        nll: mean ``-log p(gold)`` per row in nats; with several labels per row, the sum over the labels' yes or no.
        brier: mean squared distance of probabilities and gold, summed over labels (0 to 2 with one label; Brier 1950).
        ece: expected calibration error of the answers; with several labels per row, of every yes and no.
        grouped: the figures of groups, where rows have them; intervals are then those of drawn groups.
    """

    rows: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float | None
    macro_f1_interval: Interval | None
    nll: float
    brier: float
    ece: float
    labels: dict[str, LabelMetrics]
    grouped: GroupMetrics | None = field(default=None, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        found = asdict(self)
        if self.grouped is None:
            del found["grouped"]
        return found


@dataclass(frozen=True)
class SingleLabelMetrics(Metrics):
    """Rows of one label. ``confusion[i][j]`` counts rows of label i predicted as j."""

    confusion: list[list[int]]


@dataclass(frozen=True)
class OrdinalMetrics(SingleLabelMetrics):
    """Rows with a place on a scale; distances are on the labels' own (:func:`~petkit.metrics.decision.scale_of`).

    Attributes:
        mae: mean distance of the most probable label ``v`` from gold.
        expected_mae: mean distance of the expected value ``Σ p_i v_i`` from gold.
        quadratic_kappa: agreement beyond chance, errors weighed by their square in places (Cohen 1968); 0 where undefined.
    """

    mae: float
    expected_mae: float
    quadratic_kappa: float


@dataclass(frozen=True)
class MultiLabelMetrics(Metrics):
    """Rows of any number of labels.

    Attributes:
        micro_f1: F1 of all yes decisions together; None where no label occurs or is predicted.
        label_accuracy: share of right decisions, mean over labels.
    """

    micro_f1: float | None
    micro_f1_interval: Interval | None
    label_accuracy: float


def evaluate(
    logits: FloatArray,
    targets: FloatArray,
    labels: tuple[str, ...],
    decision: Decision,
    groups: NDArray[np.int64] | None = None,
) -> Metrics:
    """Compare label logits with gold labels of any kind.

    >>> logits, targets = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1, 0], [1, 0]])
    >>> evaluate(logits, targets, ("spam", "other"), Decision()).accuracy
    0.5

    Args:
        logits: shape ``(rows, labels)``, at least one row.
        targets: 1 where a row has a label, 0 elsewhere, shape ``(rows, labels)``.
        labels: label names in class order.
        groups: the number of each row's group, rising, shape ``(rows,)``; None where rows stand alone.
    """
    gold, chosen = targets > 0, decision.chosen(logits)  # (rows, labels) each
    probabilities, accuracy = decision.kind.probabilities(logits), decision.accuracy(logits, targets)
    per_label, macro_f1 = _per_label(gold, chosen, labels)
    shared: dict[str, Any] = {
        "rows": len(gold),
        "accuracy": accuracy,
        "accuracy_interval": wilson(accuracy, len(gold)),
        "macro_f1": macro_f1,
        "grouped": None,
        "brier": float(((probabilities - gold) ** 2).sum(axis=1).mean()),
        "labels": per_label,
    }
    f1_of_groups: tuple[Interval | None, ...] = ()
    if groups is not None:
        right_rows = (chosen == gold).all(axis=1)
        shared |= {"grouped": group_metrics(right_rows, groups), "accuracy_interval": accuracy_interval(right_rows, groups)}
        f1_of_groups = f1_intervals(chosen, gold, groups)
    if decision.kind.multi:
        scores, right = logits.astype(np.float64), chosen == gold
        micro_f1_interval, shared["macro_f1_interval"] = f1_of_groups or bootstrap_decisions(chosen, gold)
        return MultiLabelMetrics(
            **shared,
            nll=float((np.logaddexp(0, scores) - gold * scores).sum(axis=1).mean()),
            ece=calibration_error(np.where(chosen, probabilities, 1 - probabilities).ravel(), right.ravel()),
            micro_f1=None if micro_f1_interval is None else float(2 * (chosen & gold).sum() / (chosen.sum() + gold.sum())),
            micro_f1_interval=micro_f1_interval,
            label_accuracy=float(right.mean()),
        )
    truth, predicted = targets.argmax(axis=1), logits.argmax(axis=1)  # (rows,) each
    confusion = np.bincount(truth * len(labels) + predicted, minlength=len(labels) ** 2).reshape(len(labels), -1)
    shared |= {
        "macro_f1_interval": f1_of_groups[1] if f1_of_groups else bootstrap_confusion(confusion),
        "nll": float(-log_softmax(logits)[gold].mean(dtype=np.float64)),
        "ece": calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth),
        "confusion": confusion.tolist(),
    }
    if decision.kind is not LabelKind.ORDINAL:
        return SingleLabelMetrics(**shared)
    from sklearn.metrics import cohen_kappa_score

    places, scale = np.arange(len(labels)), scale_of(labels)
    undefined = (predicted == predicted[0]).all() and (truth == predicted[0]).all()  # one place only: chance is perfect
    kappa = 0.0 if undefined else cohen_kappa_score(truth, predicted, labels=places, weights="quadratic")
    return OrdinalMetrics(
        **shared,
        mae=float(np.abs(scale[predicted] - scale[truth]).mean()),
        expected_mae=float(np.abs(probabilities @ scale - scale[truth]).mean()),
        quadratic_kappa=float(kappa),
    )


def _per_label(gold: Chosen, chosen: Chosen, labels: tuple[str, ...]) -> tuple[dict[str, LabelMetrics], float | None]:
    """Return precision, recall, F1 and rows of each label, and the mean F1 of those that occur or are predicted."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(gold, chosen, labels=np.arange(len(labels)), average=None, zero_division=0)
    found = np.asarray((gold | chosen).any(axis=0))
    each = zip(labels, found, *(column.tolist() for column in columns), strict=True)
    metrics = {label: LabelMetrics(*row) if here else LabelMetrics(None, None, None, 0) for label, here, *row in each}
    return metrics, float(columns[2][found].mean()) if found.any() else None


def calibration_error(confidence: Floats, correct: Chosen, bins: int = ECE_BINS) -> float:
    """Return the mean gap between confidence and accuracy over equally wide confidence bins (Guo et al. 2017, equation 3)."""
    # A confidence on a bin's upper edge belongs to that bin.
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sums = np.bincount(index, weights=confidence, minlength=bins)
    hits = np.bincount(index, weights=correct, minlength=bins)
    return float(np.abs(sums - hits).sum() / len(confidence))
