"""Figures of rows with candidates of their own, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from petkit.ensemble import LabelKind
from petkit.metrics import Decision, answer_f1, evaluate_candidates
from petkit.storage.ragged import ABSENT

# Probabilities 0.25, 0.75; 0.5, 0.3, 0.2; 0.9, 0.1.
LOGITS = np.array(
    [[math.log(1), math.log(3), ABSENT], [math.log(5), math.log(3), math.log(2)], [math.log(9), 0, ABSENT]], np.float32
)
TARGETS = np.array([[0, 1, 0], [0, 1, 1], [1, 0, 0]], np.float32)
TEXTS = [["no", "the big dog"], ["Donald Trump", "Trump", "Mike Pence"], ["a cat", "x"]]


def test_figures() -> None:
    found = evaluate_candidates(LOGITS, TARGETS, TEXTS)

    assert found.rows == 3 and found.accuracy == pytest.approx(2 / 3)  # the second answer is none of the right ones
    assert found.nll == pytest.approx(-(math.log(0.75) + math.log(0.3 + 0.2) + math.log(0.9)) / 3, rel=1e-6)
    by_row = [0.25**2 + 0.25**2, 0.5**2 + 0.2**2 + 0.3**2, 0.1**2 + 0.1**2]  # the right ones of the second share 1
    assert found.brier == pytest.approx(sum(by_row) / 3, rel=1e-6)
    assert found.answer_f1 == pytest.approx((1 + 2 / 3 + 1) / 3)  # one of two words of "Donald Trump" is "Trump"
    assert found.labels == {} and found.macro_f1 is None
    assert Decision(LabelKind.CANDIDATES).right(LOGITS, TARGETS).tolist() == [True, False, True]


def test_groups_are_right_where_all_their_rows_are() -> None:
    found = evaluate_candidates(LOGITS, TARGETS, TEXTS, np.array([0, 0, 1]))
    assert found.grouped is not None and found.grouped.exact_match == 0.5


@pytest.mark.parametrize(
    ("answer", "right", "f1"),
    [("The U.S.", "us", 1.0), ("a", "the", 1.0), ("a", "cat", 0.0), ("red cat", "blue cat", 0.5), ("cat cat", "cat", 2 / 3)],
)
def test_answer_f1(answer: str, right: str, f1: float) -> None:
    assert answer_f1(answer, right) == pytest.approx(f1)
