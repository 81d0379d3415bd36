"""The measures that rank patterns, on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from petkit.ensemble import LabelKind
from petkit.prompt_search.pattern_ranking import Fold, agreement_with_others, cross_validated, fit_map, mutual_information

NONE = -1000.0  # a logit that leaves no probability


def log(*rows: list[float]) -> NDArray[np.float32]:
    return np.log(np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("logits", "nats"),
    [
        (np.array([[0, NONE], [NONE, 0]], np.float32), math.log(2)),
        (np.array([[0, NONE, NONE], [NONE, 0, NONE], [NONE, NONE, 0]], np.float32), math.log(3)),
        (log([0.8, 0.2], [0.8, 0.2], [0.8, 0.2]), 0),
        (log([0.9, 0.1], [0.1, 0.9]), 0.368064),  # ln 2 - H(0.1) = 0.693147 - 0.325083
        (log([0.75, 0.25], [0.25, 0.75], [0.5, 0.5]), 0.087208),  # ln 2 - (2 * 0.562335 + 0.693147) / 3
    ],
    ids=["certain", "certain of three", "always alike", "nearly certain", "now and then"],
)
def test_mutual_information(logits: NDArray[np.float32], nats: float) -> None:
    assert mutual_information(logits) == pytest.approx(nats, abs=1e-5)
    assert mutual_information(logits + 5) == pytest.approx(nats, abs=1e-5)


def test_mutual_information_of_independent_labels_is_their_mean() -> None:
    """The first label is answered 0.9 and 0.1, the second always alike: half of the first one's 0.368064."""
    odds = math.log(9)

    assert mutual_information(np.array([[odds, 2], [-odds, 2]], np.float32), LabelKind.MULTI) == pytest.approx(0.184032, abs=1e-5)


def test_agreement_is_with_the_majority_of_the_others() -> None:
    """Four patterns answer two rows a a a b and a b b b; the first stands alone in the second row."""
    answers = ["aa", "ab", "ab", "bb"]
    logits = np.array([[[1, 0] if label == "a" else [0, 1] for label in row] for row in answers], np.float32)

    assert agreement_with_others(logits) == [0.5, 1.0, 1.0, 0.5]


def test_tied_votes_are_decided_by_probability() -> None:
    """The second and third pattern disagree; the third is surer, so the first agrees with it or with nobody."""
    first, unsure, sure = [2.0, 0.0], [1.0, 0.0], [0.0, 3.0]

    shares = agreement_with_others(np.array([[first], [unsure], [sure]], np.float32))

    assert shares == [0.0, 0.0, 0.0]
    assert agreement_with_others(np.array([[[0.0, 2.0]], [unsure], [sure]], np.float32))[0] == 1.0


def test_agreement_of_independent_labels_counts_every_yes_and_no() -> None:
    logits = np.array([[[1, -1, -1, 1]], [[1, -1, 1, -1]]], np.float32)

    assert agreement_with_others(logits, LabelKind.MULTI) == [0.5, 0.5]


def test_the_map_of_answers_that_say_nothing_is_a_shrunken_frequency() -> None:
    """Three rows of one label and one of the other: t in b = (t, -t) is where the slope 3 s(-2t) - s(2t) is the prior's t."""
    sharpness, bias = fit_map(np.zeros((4, 1, 2)), np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float64)[:, None])

    def logistic(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    t = bias[0, 0]
    assert bias[0, 1] == pytest.approx(-t)
    assert 0 < t < math.log(3) / 2  # where it would be without the prior
    assert 3 * logistic(-2 * t) - logistic(2 * t) == pytest.approx(t, abs=1e-4)
    assert sharpness == pytest.approx(1)


def test_the_map_trusts_a_pattern_that_is_right() -> None:
    answers = np.array([[1, -1], [-1, 1]] * 10, np.float64)[:, None]
    right = np.array([[1, 0], [0, 1]] * 10, np.float64)[:, None]
    mixed = np.array([[1, 0], [0, 1], [0, 1], [1, 0]] * 5, np.float64)[:, None]

    assert fit_map(answers, right)[0] > 2
    assert fit_map(answers, mixed)[0] < 0.5


def halves(rows: int) -> list[Fold]:
    """Every other pair of rows, and the rest."""
    numbers = np.arange(rows)
    first = numbers // 2 % 2 == 0
    return [(numbers[first], numbers[~first]), (numbers[~first], numbers[first])]


GOLD = np.array([[1, 0], [0, 1]] * 4, np.float32)


def test_cross_entropy_of_a_pattern_that_says_nothing() -> None:
    assert cross_validated(np.zeros((8, 2), np.float32), GOLD, halves(8)) == pytest.approx(math.log(2), abs=1e-6)


def test_cross_entropy_orders_patterns() -> None:
    right = 4 * GOLD
    half_right = right.copy()
    half_right[::2] = right[1::2]

    costs = [cross_validated(logits, GOLD, halves(8)) for logits in (right, half_right, right[:, ::-1])]

    assert costs[0] < costs[1] < costs[2]
    assert costs[0] < 0.3 < math.log(2) < costs[2]


@pytest.mark.parametrize("multi", [False, True])
def test_a_pattern_is_not_blamed_for_being_too_sure(multi: bool) -> None:
    logits = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)

    plain, sharp = (
        cross_validated(scale * logits, GOLD, halves(8), LabelKind.MULTI if multi else LabelKind.SINGLE) for scale in (1, 50)
    )

    assert sharp == pytest.approx(plain, abs=1e-5)


def test_cross_entropy_of_independent_labels_is_their_mean() -> None:
    """A second label that all rows lack is soon known to be lacking; the first stays at ln 2."""
    gold = np.array([[1, 0], [0, 0]] * 4, np.float32)

    found = cross_validated(np.zeros((8, 2), np.float32), gold, halves(8), LabelKind.MULTI)

    assert math.log(2) / 2 < found < math.log(2)
