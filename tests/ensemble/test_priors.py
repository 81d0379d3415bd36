"""Class-prior matching reaches its prior, from soft rows and sharp ones, whatever the shards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.ensemble.calibration import TOLERANCE, match_prior, prior_shares


def mean_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    return np.exp(shifted - np.logaddexp.reduce(shifted, axis=1, keepdims=True)).mean(0)


def skewed(rows: int, labels: int, scale: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (scale * (random.standard_normal((rows, labels)) + random.standard_normal(labels))).astype(np.float32)


def test_by_hand() -> None:
    """All rows say (ln 3, 0), that is 3 to 1. To be even, the first label must lose ln 3."""
    logits = np.tile(np.array([np.log(3), 0], np.float32), (4, 1))
    bias, distance = match_prior(lambda: [logits], np.array([0.5, 0.5]))
    assert bias == pytest.approx([-np.log(3) / 2, np.log(3) / 2], abs=1e-3) and distance <= TOLERANCE


@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
@pytest.mark.parametrize(("rows", "labels"), [(10, 2), (400, 5), (300, 40)])
def test_the_mean_becomes_the_prior(rows: int, labels: int, scale: float) -> None:
    logits = skewed(rows, labels, scale)
    for shares in (np.full(labels, 1 / labels), np.random.default_rng(1).dirichlet(np.ones(labels))):
        bias, distance = match_prior(lambda: [logits], shares)
        assert distance <= TOLERANCE and bias.sum() == pytest.approx(0, abs=1e-9)
        assert np.abs(mean_softmax(logits + bias) - shares).max() == pytest.approx(distance, abs=1e-8)


def test_a_prior_that_holds_already_changes_nothing() -> None:
    logits = skewed(50, 3, 2)
    bias, _ = match_prior(lambda: [logits], mean_softmax(logits))
    assert bias.tolist() == [0, 0, 0]


def test_a_share_of_nothing() -> None:
    logits = skewed(200, 3, 3)
    bias, distance = match_prior(lambda: [logits], np.array([0, 0.5, 0.5]))
    assert distance <= TOLERANCE and np.isfinite(bias).all() and mean_softmax(logits + bias)[0] <= TOLERANCE


def test_shards_are_read_again_and_their_sizes_count() -> None:
    logits, shares = skewed(100, 4, 3), np.array([0.4, 0.3, 0.2, 0.1])
    whole, _ = match_prior(lambda: [logits], shares)
    cut, _ = match_prior(lambda: (block for block in np.split(logits, [1, 70])), shares)
    assert cut == pytest.approx(whole, abs=1e-6)


@given(order=st.permutations(range(4)))
def test_the_order_of_labels_does_not_matter(order: list[int]) -> None:
    logits, shares = skewed(60, 4, 4), np.array([0.4, 0.3, 0.2, 0.1])
    bias, _ = match_prior(lambda: [logits], shares)
    moved, _ = match_prior(lambda: [logits[:, order]], shares[order])
    assert moved == pytest.approx(bias[order], abs=1e-2)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("train", [0.5, 0.25, 0.25]),
        ({"c": 1, "b": 0, "a": 3}, [0.75, 0, 0.25]),
    ],
)
def test_shares(prior: Any, expected: list[float]) -> None:
    assert prior_shares(prior, "abc", [0, 2, 1, 0]).tolist() == pytest.approx(expected)
