"""Row weights and the choice of rows, on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.ensemble import LabelKind, best_probability, choose_rows, confidence_weights, is_rare


@pytest.mark.parametrize(
    ("probabilities", "weight"),
    [
        ((0.2, 0.8), 1 - 0.500402 / 0.693147),
        ((0.5, 0.5), 0),
        ((0.25,) * 4, 0),
        ((0.5, 0.5, 0.0, 0.0), 0.5),  # one bit of two
        ((1.0, 0.0, 0.0), 1),
    ],
)
def test_confidence(probabilities: tuple[float, ...], weight: float) -> None:
    logits = np.log(np.maximum(np.array([probabilities], np.float32), 1e-30))
    (found,) = confidence_weights(logits)
    assert found == pytest.approx(weight, abs=5e-6) and 0 <= found <= 1 and found.dtype == np.float32


def test_confidence_over_several_labels() -> None:
    """One answer of 0.8, one of 0.5: the mean of 1 - H / ln 2."""
    logits = np.log(np.array([[4, 1]], np.float32))
    assert confidence_weights(logits, LabelKind.MULTI)[0] == pytest.approx((1 - 0.500402 / 0.693147) / 2, abs=5e-6)


def test_confidence_at_extreme_logits_stays_between_0_and_1() -> None:
    logits = np.array([[1e4, -1e4, 0], [0, 0, 0], [-1e4, -1e4, -1e4]], np.float32)
    for multi in (False, True):
        weights = confidence_weights(logits, LabelKind.MULTI if multi else LabelKind.SINGLE)
        assert ((weights >= 0) & (weights <= 1)).all()
    assert confidence_weights(logits).tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_best_probability_is_exact_where_labels_tie() -> None:
    logits = np.array([[3, 3], [np.log(3), 0], [-5000, 5000]], np.float32)
    assert best_probability(logits).tolist() == [0.5, pytest.approx(0.75), 1.0]


WINNERS = np.array([0, 1, 0, 0, 1, 0, 2])
SURE = np.array([0.5, 0.9, 0.7, 0.9, 0.6, 0.7, 0.4])


@pytest.mark.parametrize(
    ("min_probability", "top_share", "kept"),
    [
        (0.0, 1.0, [0, 1, 2, 3, 4, 5, 6]),
        (0.7, 1.0, [1, 2, 3, 5]),  # the threshold itself is enough
        (0.0, 0.5, [1, 2, 3, 6]),  # ceil(0.5 · 4), ceil(0.5 · 2) and ceil(0.5 · 1); of rows 2 and 5, which tie, the first
        (0.0, 0.01, [1, 3, 6]),  # of every label at least one
        (0.65, 0.75, [1, 2, 3, 5]),  # 3 of label 0, both of label 1, and then the threshold
        (0.95, 0.5, []),
    ],
)
def test_choice_of_rows(min_probability: float, top_share: float, kept: list[int]) -> None:
    keep = choose_rows(WINNERS, SURE, min_probability=min_probability, top_share=top_share)
    assert np.flatnonzero(keep).tolist() == kept


def test_seven_of_a_hundred_are_seven() -> None:
    keep = choose_rows(np.zeros(100, np.int64), np.linspace(0, 1, 100), min_probability=0, top_share=0.07)
    assert np.flatnonzero(keep).tolist() == [93, 94, 95, 96, 97, 98, 99]


def test_all_rows_tie() -> None:
    keep = choose_rows(np.zeros(9, np.int64), np.full(9, 0.5), min_probability=0.5, top_share=0.4)
    assert np.flatnonzero(keep).tolist() == [0, 1, 2, 3]


@given(order=st.permutations(range(7)), labels=st.permutations(range(3)))
def test_neither_the_order_of_rows_nor_the_names_of_labels_matter(order: list[int], labels: list[int]) -> None:
    """But of rows that tie the first is kept, so here none do."""
    sure = SURE + np.arange(7) / 1000
    keep = choose_rows(WINNERS, sure, min_probability=0.45, top_share=0.5)
    moved = choose_rows(np.array(labels)[WINNERS][order], sure[order], min_probability=0.45, top_share=0.5)
    assert moved.tolist() == keep[order].tolist()


@pytest.mark.parametrize(
    ("rows", "total", "labels", "rare"),
    [(0, 5, 2, True), (1, 5, 2, False), (9, 1000, 2, True), (10, 1000, 2, False), (9, 1000, 10, True), (1, 999, 100, False)],
)
def test_rare(rows: int, total: int, labels: int, rare: bool) -> None:
    assert is_rare(rows, total, labels) == rare
