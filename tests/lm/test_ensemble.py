"""Combining teachers: the known numbers, float64 references, and weights."""

from __future__ import annotations

from itertools import permutations
from typing import Literal, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from petkit.lm.ensemble import agreement, combine, entropy, log_softmax, teacher_weights

How: TypeAlias = Literal["logits", "log_probs", "probs"]
HOWS: tuple[How, ...] = ("logits", "log_probs", "probs")


def softmax64(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) / temperature)
    return powers / powers.sum(-1, keepdims=True)


def teachers(count: int, rows: int, labels: int, seed: int = 0) -> NDArray[np.float32]:
    return (3 * np.random.default_rng(seed).standard_normal((count, rows, labels))).astype(np.float32)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.5, (0.999664, 0.000335, 0.000001)),
        (1.0, (0.981135, 0.017970, 0.000895)),
        (10.0, (0.461488, 0.309344, 0.229168)),
    ],
)
def test_softmax_temperatures(temperature: float, expected: tuple[float, ...]) -> None:
    probabilities = np.exp(log_softmax(np.array([9, 5, 2], np.float32), temperature))
    assert probabilities == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 4)])
def test_log_softmax_against_naive(shape: tuple[int, ...]) -> None:
    logits = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    result = log_softmax(logits, 2.0)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.log(softmax64(logits, 2.0)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_log_softmax_is_stable_and_ignores_a_shift(shift: float) -> None:
    logits = np.array([[3.0, 1.0, -2.0]], np.float32)
    np.testing.assert_allclose(log_softmax(logits + np.float32(shift)), log_softmax(logits), atol=2e-3)
    assert np.isfinite(log_softmax(np.array([[1e4, -1e4]], np.float32))).all()


@pytest.mark.parametrize(("how", "expected"), [("logits", 0.9999), ("log_probs", 0.9999), ("probs", 0.5126)])
def test_a_sharp_teacher_wins_only_where_logits_are_averaged(how: How, expected: float) -> None:
    """One teacher, made five times sharper, against two that disagree with it mildly."""
    three = np.array([[[5 * 6, 0]], [[0, 1]], [[0, 1]]], np.float32)
    combined = combine(three, np.ones(3, np.float32), how)
    assert np.exp(log_softmax(combined))[0, 0] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (0.7, 0.2, 0.9, 0.4), (3, 0, 1, 0)])
def test_combine_against_float64(weights: tuple[float, ...]) -> None:
    logits = teachers(4, 6, 5)
    share = np.array(weights) / sum(weights)
    given = np.array(weights, np.float32)
    mean_logits = np.tensordot(share, logits.astype(np.float64), 1)
    np.testing.assert_allclose(combine(logits, given, "logits"), mean_logits, rtol=1e-4, atol=1e-5)
    mean_log_probs = np.tensordot(share, np.log(softmax64(logits)), 1)
    np.testing.assert_allclose(combine(logits, given, "log_probs"), mean_log_probs, rtol=1e-4, atol=1e-5)
    mean_probs = np.tensordot(share, softmax64(logits), 1)
    np.testing.assert_allclose(np.exp(combine(logits, given, "probs")), mean_probs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_a_teacher_of_weight_zero_has_no_say(how: How) -> None:
    logits = teachers(3, 4, 3)
    without = combine(logits[:2], np.array([2, 1], np.float32), how)
    with_zero = combine(logits, np.array([2, 1, 0], np.float32), how)
    np.testing.assert_allclose(with_zero, without, rtol=1e-5, atol=1e-6)
    assert np.isfinite(with_zero).all()


@pytest.mark.parametrize("how", HOWS)
def test_one_teacher_is_its_own_ensemble(how: How) -> None:
    logits = teachers(1, 5, 4)
    combined = combine(logits, np.array([0.3], np.float32), how)
    np.testing.assert_allclose(log_softmax(combined), log_softmax(logits[0]), atol=2e-6)


@pytest.mark.parametrize("how", HOWS)
def test_only_the_ratio_of_weights_counts(how: How) -> None:
    logits, weights = teachers(3, 4, 3), np.array([1, 2, 5], np.float32)
    np.testing.assert_allclose(combine(logits, 10 * weights, how), combine(logits, weights, how), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_neither_the_order_of_teachers_nor_of_labels_matters(how: How) -> None:
    logits, weights = teachers(3, 4, 3), np.array([1, 2, 5], np.float32)
    combined = combine(logits, weights, how)
    for order in permutations(range(3)):
        chosen = list(order)
        np.testing.assert_allclose(combine(logits[chosen], weights[chosen], how), combined, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(combine(logits[..., chosen], weights, how), combined[:, chosen], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_extreme_logits_stay_finite(how: How) -> None:
    logits = np.array([[[1e4, -1e4, 0]], [[-1e4, 1e4, 0]]], np.float32)
    combined = combine(logits, np.array([1, 0], np.float32), how)
    assert np.isfinite(combined).all() and combined.argmax() == 0
    assert np.isfinite(log_softmax(combined, 2.0)).all()


@pytest.mark.parametrize(
    ("probabilities", "nats"),
    [((0.2, 0.8), 0.500402), ((0.5, 0.5), 0.693147), ((0.25,) * 4, 1.386294)],
)
def test_entropy_in_nats(probabilities: tuple[float, ...], nats: float) -> None:
    assert entropy(np.log(np.array([probabilities], np.float32)))[0] == pytest.approx(nats, abs=5e-6)


def test_entropy_of_a_sure_row_is_zero() -> None:
    assert entropy(log_softmax(np.array([[1e4, -1e4, 0]], np.float32)))[0] == 0.0


def test_agreement_counts_teachers_on_the_ensembles_side() -> None:
    logits = np.array([[[2, 0], [2, 0]], [[1, 0], [0, 5]], [[0, 1], [0, 1]]], np.float32)
    combined = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(agreement(logits, combined), [2 / 3, 2 / 3], rtol=1e-6)
    assert agreement(logits[:1], combined).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("accuracies", "weighting", "expected"),
    [
        ([0.9, 0.1], "uniform", [1.0, 1.0]),
        ([0.75, 0.5, 0.0], "train_accuracy", [0.75, 0.5, 0.0]),
        ([0.0, 0.0], "train_accuracy", [1.0, 1.0]),
    ],
)
def test_teacher_weights(accuracies: list[float], weighting: Literal["uniform", "train_accuracy"], expected: list[float]) -> None:
    assert teacher_weights(accuracies, weighting).tolist() == expected
