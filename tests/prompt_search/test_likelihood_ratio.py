"""PETAL's likelihood ratio against numbers worked out by hand, and words handed out to labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from petkit.prompt_search.label_words import best_words, likeliest, likelihood_ratio, log_odds

# Probabilities of two words at the mask in three rows; the first two have label 0, the third label 1.
Q = np.array([[0.8, 0.1], [0.5, 0.1], [0.2, 0.1]])
GOLD = np.array([0, 0, 1])


def mean_log_odds(q: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    odds = np.log(q / (1 - q))
    return np.stack([odds[gold == label].mean(axis=0) for label in np.unique(gold)]), np.bincount(gold)


def test_log_odds_numbers() -> None:
    found = log_odds(torch.tensor([[0.7, 0.2, 0.1]]).log() + 3)

    # ln(.7/.3), ln(.2/.8), ln(.1/.9)
    torch.testing.assert_close(found, torch.tensor([[0.847298, -1.386294, -2.197225]]), atol=2e-6, rtol=0)


def test_log_odds_of_a_certain_answer() -> None:
    """q rounds to 1 in float32; its log-odds are still 200 - ln 2 and change with the others."""
    found = log_odds(torch.tensor([[200.0, 0, 0], [200.0, 0, 10]]))

    assert found[0].tolist() == pytest.approx([199.306853, -200, -200])
    assert found[1].tolist() == pytest.approx([190 - math.log1p(math.exp(-10)), -200, -190])


def test_log_odds_of_equals() -> None:
    assert log_odds(torch.zeros(1, 2)).tolist() == [[0, 0]]
    assert log_odds(torch.zeros(1, 5))[0].tolist() == pytest.approx([-math.log(4)] * 5)


def test_log_odds_equal_the_naive_form() -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 5
    q = logits.double().softmax(dim=-1)

    torch.testing.assert_close(log_odds(logits), torch.log(q / (1 - q)).float(), rtol=1e-4, atol=1e-4)


def test_likelihood_ratio_numbers() -> None:
    """ln 4 = 1.386294. Label 0: (ln 4 + 0) - 2/1 · (-ln 4) over 2 rows; label 1: -ln 4 - 1/2 · (ln 4 + 0)."""
    found = likelihood_ratio(*mean_log_odds(Q, GOLD))

    np.testing.assert_allclose(found, [[2.079442, 0], [-2.079442, 0]], atol=5e-6)


def test_likelihood_ratio_is_the_papers_divided_by_the_rows_of_the_label() -> None:
    random = np.random.default_rng(0)
    q, gold = random.uniform(0.01, 0.99, (9, 4)), np.array([0, 1, 2, 0, 0, 1, 2, 0, 0])
    odds = np.log(q / (1 - q))
    for label, found in enumerate(likelihood_ratio(*mean_log_odds(q, gold))):
        own, rest = odds[gold == label], odds[gold != label]
        paper = own.sum(axis=0) - len(own) / len(rest) * rest.sum(axis=0)  # equations 5 and 7
        np.testing.assert_allclose(found * len(own), paper)


def test_negatives_weigh_the_same_however_many_they_are() -> None:
    once = likelihood_ratio(*mean_log_odds(Q, GOLD))
    thrice = likelihood_ratio(*mean_log_odds(np.vstack([Q, Q[2:], Q[2:]]), np.append(GOLD, [1, 1])))

    np.testing.assert_allclose(thrice, once, atol=1e-12)


def test_the_sum_over_patterns_may_be_taken_first() -> None:
    means, counts = mean_log_odds(Q, GOLD)
    other, _ = mean_log_odds(Q[::-1] / 2, GOLD)

    together = likelihood_ratio(means, counts) + likelihood_ratio(other, counts)
    np.testing.assert_allclose(likelihood_ratio(means + other, counts), together, atol=1e-12)


def test_likeliest() -> None:
    found = likeliest(np.array([[0.0, 3, 1, 3], [5, 5, 5, 4]]), 2)

    assert found.tolist() == [[False, True, False, True], [True, True, False, False]]
    assert likeliest(np.zeros((2, 3)), 10).all()


@pytest.mark.parametrize(
    ("scores", "per_label", "expected"),
    [
        ([[5, 4, 1, 0], [6, 3, 2, 1]], 2, [[1, 3], [0, 2]]),  # word 0 suits label 1 better; word 2 too
        ([[9, 8], [7, 7.5]], 1, [[0], [1]]),  # word 1 suits label 0 better, which has one already
        ([[1, 1, 1, 1], [0, 0, 0, 0]], 2, [[0, 1], [2, 3]]),  # equals: the lower number first
        ([[1, 1], [1, 1]], 1, [[0], [1]]),
        ([[9, -np.inf, 1], [8, 7, -np.inf]], 1, [[0], [1]]),
        ([[9, 8, 1], [10, -np.inf, 7]], 1, [[1], [0]]),
    ],
)
def test_best_words(scores: list[list[float]], per_label: int, expected: list[list[int]]) -> None:
    assert best_words(np.array(scores, float), per_label) == expected


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 4))
def test_words_are_never_shared_and_labels_have_no_order(seed: int, labels: int, per_label: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(labels, labels * per_label + 3))
    order = random.permutation(labels)

    found = best_words(scores, per_label)

    assert [len(words) for words in found] == [per_label] * labels
    assert len({word for words in found for word in words}) == labels * per_label
    assert best_words(scores[order], per_label) == [found[label] for label in order]
    for label, words in enumerate(found):
        assert words == sorted(words, key=lambda word: -scores[label, word])
        # Nobody who would rather have a word, and whom the word suits better, was passed over.
        for other, others in enumerate(found):
            envied = [word for word in others if scores[label, word] > scores[label, words[-1]]]
            assert all(scores[other, word] >= scores[label, word] for word in envied)
