"""Figures of merit: by hand, against scikit-learn, and against resampling rows one by one."""

from __future__ import annotations

import json
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

from petkit.ensemble import log_softmax
from petkit.metrics import Decision, SingleLabelMetrics, evaluate
from petkit.metrics.bootstrap import bootstrap_confusion
from petkit.metrics.metrics import calibration_error

Floats: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]


def log_probs(*rows: tuple[float, ...]) -> Floats:
    return np.log(np.array(rows, np.float64)).astype(np.float32)


def gold(*labels: int) -> Labels:
    return np.array(labels, np.int64)


def evaluate_rows(logits: Floats, truth: Labels, names: tuple[str, ...] = ("a", "b")) -> SingleLabelMetrics:
    found = evaluate(logits, np.eye(logits.shape[1], dtype=np.float32)[truth], names, Decision())
    assert isinstance(found, SingleLabelMetrics)
    return found


def calibration_error_of(rows: Floats, truth: Labels, bins: int = 15) -> float:
    return calibration_error(np.exp(rows.max(1).astype(np.float64)), rows.argmax(1) == truth, bins)


def random_case(rows: int, labels: int, seed: int = 0) -> tuple[Floats, Labels]:
    random = np.random.default_rng(seed)
    return (2 * random.standard_normal((rows, labels))).astype(np.float32), random.integers(labels, size=rows)


def test_by_hand() -> None:
    """Four rows, predicted a, a, b, b; gold a, b, b, b."""
    rows = log_probs((0.8, 0.2), (0.7, 0.3), (0.3, 0.7), (0.4, 0.6))
    found = evaluate_rows(rows, gold(0, 1, 1, 1))
    assert found.rows == 4 and found.accuracy == 0.75
    assert found.confusion == [[1, 0], [1, 2]]
    assert (found.labels["a"].precision, found.labels["a"].recall, found.labels["a"].rows) == (0.5, 1.0, 1)
    assert (found.labels["b"].precision, found.labels["b"].rows) == (1.0, 3)
    assert found.labels["a"].f1 == pytest.approx(2 / 3) and found.labels["b"].f1 == pytest.approx(0.8)
    assert found.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    assert found.nll == pytest.approx((0.223144 + 1.203973 + 0.356675 + 0.510826) / 4, abs=5e-6)
    assert found.brier == pytest.approx((2 * 0.04 + 2 * 0.49 + 2 * 0.09 + 2 * 0.16) / 4, rel=1e-6)


@pytest.mark.parametrize(("probability", "nats"), [(0.8, 0.223144), (0.7, 0.356675), (0.3, 1.203973)])
def test_negative_log_likelihood_numbers(probability: float, nats: float) -> None:
    assert evaluate_rows(log_probs((probability, 1 - probability)), gold(0)).nll == pytest.approx(nats, abs=5e-6)


@pytest.mark.parametrize(
    ("rows", "labels", "expected"),
    [
        ([(1.0, 1e-30)], [0], 0.0),  # sure and right
        ([(1.0, 1e-30)], [1], 2.0),  # sure and wrong
        ([(0.5, 0.5)], [0], 0.5),
        ([(0.25, 0.25, 0.25, 0.25)], [2], 0.75),
    ],
)
def test_brier_score(rows: list[tuple[float, ...]], labels: list[int], expected: float) -> None:
    assert evaluate_rows(log_probs(*rows), gold(*labels), tuple("abcd"[: len(rows[0])])).brier == pytest.approx(
        expected, abs=1e-6
    )


def test_calibration_error_by_hand() -> None:
    """Two bins: (0, ½] is empty; one row at .75 right, one at .65 wrong, so |1.4 - 1| / 2."""
    rows = log_probs((0.75, 0.25), (0.65, 0.35))
    assert calibration_error_of(rows, gold(0, 1), bins=2) == pytest.approx(0.2, abs=1e-6)


def test_calibration_error_weighs_bins_by_their_rows() -> None:
    """Ten bins: three rows at .65 (one right), one row at .95 (right)."""
    rows = log_probs((0.65, 0.35), (0.65, 0.35), (0.65, 0.35), (0.05, 0.95))
    expected = (abs(3 * 0.65 - 1) + abs(0.95 - 1)) / 4
    assert calibration_error_of(rows, gold(0, 1, 1, 1), bins=10) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_against_naive(bins: int) -> None:
    logits, truth = random_case(300, 3)
    truth = np.where(np.arange(300) % 7 < 5, logits.argmax(1), truth)  # too sure in some bins, not sure enough in others
    rows = log_softmax(logits)
    confidence, right = np.exp(rows.max(1)), rows.argmax(1) == truth
    expected = 0.0
    for edge in range(bins):
        inside = (confidence > edge / bins) & (confidence <= (edge + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert calibration_error_of(rows, truth, bins) == pytest.approx(expected, abs=1e-6)


def test_errors_of_opposite_sign_cancel_inside_a_bin_only() -> None:
    rows = log_probs((0.75, 0.25), (0.75, 0.25))
    assert calibration_error_of(rows, gold(0, 1), bins=1) == pytest.approx(0.25, abs=1e-6)
    apart = log_probs((0.55, 0.45), (0.95, 0.05))
    assert calibration_error_of(apart, gold(0, 1), bins=10) == pytest.approx((0.45 + 0.95) / 2, abs=1e-6)


def test_full_confidence_falls_into_the_last_bin() -> None:
    rows = log_softmax(np.array([[1e4, -1e4], [1e4, -1e4]], np.float32))
    assert calibration_error_of(rows, gold(0, 1)) == pytest.approx(0.5)
    assert calibration_error_of(rows, gold(0, 0)) == 0.0


@pytest.mark.parametrize(("rows", "labels", "seed"), [(50, 2, 0), (200, 5, 1), (37, 14, 2), (1, 3, 3)])
def test_against_scikit_learn(rows: int, labels: int, seed: int) -> None:
    logits, truth = random_case(rows, labels, seed)
    names = tuple(f"label-{index}" for index in range(labels))
    found = evaluate_rows(logits, truth, names)
    predicted, classes = logits.argmax(1), list(range(labels))
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert found.nll == pytest.approx(log_loss(truth, probabilities, labels=classes), rel=1e-5)
    one_hot = np.eye(labels)[truth]
    assert found.brier == pytest.approx(((probabilities - one_hot) ** 2).sum(1).mean(), rel=1e-5)
    for function, name in ((precision_score, "precision"), (recall_score, "recall"), (f1_score, "f1")):
        expected = function(truth, predicted, labels=classes, average=None, zero_division=0)
        np.testing.assert_allclose([getattr(found.labels[label], name) or 0.0 for label in names], expected)
    assert [found.labels[label].rows for label in names] == np.bincount(truth, minlength=labels).tolist()


@pytest.mark.parametrize(
    ("predicted", "truth", "wrong"), [([0, 2, 1], [0, 1, 1], 2), ([0, 0, 1], [0, 2, 2], 2)], ids=["predicted only", "gold only"]
)
def test_labels_never_right_score_zero(predicted: list[int], truth: list[int], wrong: int) -> None:
    logits = 5 * np.eye(3, dtype=np.float32)[predicted]
    found = evaluate_rows(logits, gold(*truth), ("a", "b", "c"))
    assert found.labels["abc"[wrong]].f1 == 0.0
    assert found.macro_f1 == pytest.approx(sum(entry.f1 for entry in found.labels.values()) / 3)
    assert found.macro_f1_interval[0] <= found.macro_f1 <= found.macro_f1_interval[1]


@pytest.mark.parametrize(("rows", "labels", "seed"), [(80, 2, 0), (150, 4, 1)])
def test_bootstrap_is_that_of_rows(rows: int, labels: int, seed: int) -> None:
    logits, truth = random_case(rows, labels, seed)
    predicted = np.where(np.arange(rows) % 3 == 0, truth, logits.argmax(1))
    confusion = np.zeros((labels, labels), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    random = np.random.default_rng(99)
    scores = []
    for _ in range(1500):
        drawn = random.integers(rows, size=rows)
        counts = np.bincount(truth[drawn] * labels + predicted[drawn], minlength=labels**2).reshape(labels, labels)
        hits, total = np.diagonal(counts), counts.sum(0) + counts.sum(1)
        scores.append(np.mean([2 * hit / both for hit, both in zip(hits, total, strict=True) if both]))
    assert bootstrap_confusion(confusion) == pytest.approx(np.percentile(scores, [2.5, 97.5]), abs=0.02)


def test_bootstrap_is_deterministic_and_follows_its_seed() -> None:
    confusion = np.array([[40, 13], [9, 38]])
    assert bootstrap_confusion(confusion) == bootstrap_confusion(confusion)
    assert bootstrap_confusion(confusion) != bootstrap_confusion(confusion, seed=1)


def test_many_labels_are_drawn_in_chunks() -> None:
    confusion = np.diag(np.full(150, 2))
    confusion[0, 1] = 1
    low, high = bootstrap_confusion(confusion)
    assert low < high


def test_metrics_become_strict_json() -> None:
    """Also where the model is sure and wrong: no infinity, no NaN."""
    logits = np.array([[1e4, -1e4], [1e4, -1e4]], np.float32)
    found = evaluate_rows(logits, gold(1, 0)).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["accuracy"] == 0.5
