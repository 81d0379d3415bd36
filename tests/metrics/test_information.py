"""Information measures: numbers worked out by hand, known inequalities, and scipy's and scikit-learn's answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import mutual_info_score

from petkit import metrics
from petkit.losses import mutual_information_bound
from petkit.metrics import cross_entropy, entropy, jensen_shannon, jensen_shannon_distance, kl_divergence

P, Q = [0.2, 0.8], [0.5, 0.5]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (metrics.kl_divergence(P, Q), 0.192745),
        (metrics.kl_divergence(Q, P), 0.223144),
        (metrics.kl_divergence(P, Q, "bit"), 0.278072),
        (metrics.cross_entropy(P, Q), 0.693147),
        (metrics.entropy(P), 0.500402),
        (metrics.entropy(P, "hart"), 0.500402 / math.log(10)),
        (metrics.perplexity(P), math.exp(0.500402)),
        (metrics.perplexity(P, Q), 2.0),
        (metrics.jensen_shannon([1, 0], [0, 1]), math.log(2)),
        (metrics.jensen_shannon_distance([1, 0], [0, 1], "bit"), 1.0),
    ],
)
def test_known_numbers(found: Any, expected: float) -> None:
    assert float(found) == pytest.approx(expected, abs=5e-6)


def test_a_label_that_cannot_be() -> None:
    assert metrics.entropy([1.0, 0.0]) == 0
    assert metrics.kl_divergence([1.0, 0.0], [0.5, 0.5], "bit") == 1
    assert metrics.kl_divergence([0.5, 0.5], [1.0, 0.0]) == math.inf
    assert metrics.cross_entropy([0.5, 0.5], [1.0, 0.0]) == math.inf
    assert metrics.cross_entropy([1.0, 0.0], [1.0, 0.0]) == 0


def test_every_row_has_its_own_number() -> None:
    rows = np.array([[[0.2, 0.8], [0.5, 0.5]], [[1.0, 0.0], [0.9, 0.1]]], np.float32)
    assert metrics.entropy(rows).shape == metrics.kl_divergence(rows, Q).shape == (2, 2)
    assert metrics.entropy(rows)[0, 1] == pytest.approx(math.log(2))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(2, 6))
    weights = st.lists(st.floats(1e-3, 1.0), min_size=count, max_size=count)
    return tuple(np.array(drawn) / sum(drawn) for drawn in (draw(weights), draw(weights)))  # type: ignore[return-value]


@given(pairs())
def test_inequalities(both: tuple[np.ndarray, np.ndarray]) -> None:
    p, q = both
    assert metrics.kl_divergence(p, q) >= -1e-12
    assert metrics.cross_entropy(p, q) == pytest.approx(metrics.entropy(p) + metrics.kl_divergence(p, q))
    assert metrics.jensen_shannon(p, q) + 1e-12 >= 0 and metrics.jensen_shannon(p, q, "bit") <= 1 + 1e-12
    assert metrics.jensen_shannon(p, q) == pytest.approx(metrics.jensen_shannon(q, p))
    assert metrics.jensen_shannon_distance(p, q) == pytest.approx(jensenshannon(p, q), abs=1e-7)
    assert metrics.perplexity(p) + 1e-9 >= 1 and metrics.perplexity(p) <= len(p) + 1e-9


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30))
def test_mutual_information_is_that_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    x, y = zip(*rows, strict=True)
    assert metrics.mutual_information(x, y) == pytest.approx(mutual_info_score(x, y), abs=1e-12)
    assert metrics.mutual_information(x, y, "bit") == pytest.approx(metrics.mutual_information(y, x) / math.log(2), abs=1e-12)


def test_correction_of_mutual_information() -> None:
    x, y = ["a", "a", "b", "b"], [0, 1, 0, 1]  # independent: 4 pairs, 2 and 2 labels
    assert metrics.mutual_information(x, y) == 0
    assert metrics.mutual_information(x, y, corrected=True) == pytest.approx(-(4 - 2 - 2 + 1) / 8)
    draw = np.random.default_rng(0)
    independent = [draw.integers(0, 3, (2, 60)) for _ in range(200)]
    plain, corrected = (
        np.mean([metrics.mutual_information(x, y, corrected=how) for x, y in independent]) for how in (False, True)
    )
    assert plain > 0.02 and abs(corrected) < plain / 4  # frequencies of 60 rows say too much, and the correction finds how much


@pytest.mark.parametrize("values", [[0.5, 0.6], [1.5, -0.5], [0.5, math.nan], [], 1.0])
def test_no_distribution(values: Any) -> None:
    for call in (lambda: metrics.entropy(values), lambda: metrics.kl_divergence(Q, values)):
        with pytest.raises(ValueError, match="must have probabilities along its last axis: not negative, with sum 1"):
            call()


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1]), ([], []), ([[1, 2]], [[1, 2]])])
def test_labels_of_other_rows(x: Any, y: Any) -> None:
    with pytest.raises(ValueError, match="must be labels of the same rows"):
        metrics.mutual_information(x, y)


def test_bound_of_info_nce() -> None:
    assert mutual_information_bound(0.3132617, 2).nats == pytest.approx(0.3798855)
    assert mutual_information_bound(1.0, 8).nats == pytest.approx(math.log(8) - 1)
    assert not mutual_information_bound(1.0, 8).saturated
    assert mutual_information_bound(1e-3, 8).saturated
    assert mutual_information_bound(3.0, 8).nats < 0
    with pytest.raises(ValueError, match="at least two rows, not 1"):
        mutual_information_bound(0.0, 1)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.sampled_from([1e-6, 1e-9, 1e-12, 0.0]))
def test_divergences_of_nearly_equal_distributions_are_not_negative(shares: list[float], change: float) -> None:
    """Rounding would make them so, and their root NaN."""
    p = np.array(shares) / sum(shares)
    q = p * (1 + change * (-1.0) ** np.arange(len(p)))
    q /= q.sum()

    assert jensen_shannon(p, q) >= 0 and kl_divergence(p, q) >= 0
    assert np.isfinite(jensen_shannon_distance(p, q))


def test_probabilities_that_were_rounded_are_normalised() -> None:
    assert kl_divergence([0.2, 0.8], [0.20004, 0.80004]) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("measure", [cross_entropy, kl_divergence, jensen_shannon])
def test_other_numbers_of_labels_are_refused(measure: Any) -> None:
    with pytest.raises(ValueError, match="same labels, not 2 and 1"):
        measure([0.2, 0.8], [1.0])


def test_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="unit must be one of bit, nat, hart, not 'bits'"):
        entropy([0.5, 0.5], "bits")  # type: ignore[arg-type]
