"""Label logits as answers: probabilities, labels given, and which rows are right, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from petkit.ensemble import LabelKind
from petkit.metrics.decision import Decision

ROWS = np.array([[2.0, 1.0, 0.1], [0.0, 0.0, -1.0], [-3.0, -2.0, -9.0]], np.float32)


def matrix(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_one_label_shares_a_softmax() -> None:
    decision = Decision()

    assert decision.kind.probabilities(ROWS)[0] == pytest.approx([0.659001, 0.242433, 0.098566], abs=1e-6)
    assert decision.kind.probabilities(ROWS).sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-6)
    assert decision.chosen(ROWS).tolist() == [[True, False, False], [True, False, False], [False, True, False]]


def test_several_labels_are_questions_of_their_own() -> None:
    decision = Decision(LabelKind.MULTI)

    assert decision.kind.probabilities(ROWS)[0] == pytest.approx([0.880797, 0.731059, 0.524979], abs=1e-6)
    # σ(0) is 0.5 exactly, and a label is given from its threshold on.
    assert decision.chosen(ROWS).tolist() == [[True, True, True], [True, True, False], [False, False, False]]


def test_every_label_has_its_threshold() -> None:
    decision = Decision(LabelKind.MULTI, (0.9, 0.0, 0.12))

    assert decision.chosen(ROWS).tolist() == [[False, True, True], [False, True, True], [False, True, False]]


def test_thresholds_are_for_several_labels_only() -> None:
    assert Decision(LabelKind.ORDINAL, (1.0, 1.0, 1.0)).chosen(ROWS).sum() == 3


@pytest.mark.parametrize(
    ("kind", "targets", "share"),
    [
        ("single", [(1, 0, 0), (1, 0, 0), (0, 0, 1)], 2 / 3),
        ("ordinal", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], 1 / 3),
        ("multi", [(1, 1, 1), (1, 1, 0), (0, 0, 0)], 1.0),
        ("multi", [(1, 1, 0), (1, 1, 0), (0, 0, 1)], 1 / 3),  # one label too many, one too few
    ],
)
def test_a_row_is_right_with_all_its_labels_and_no_other(kind: str, targets: list[tuple[int, ...]], share: float) -> None:
    assert Decision(LabelKind(kind)).accuracy(ROWS, matrix(*targets)) == pytest.approx(share)


def test_names() -> None:
    chosen = np.array([[True, False], [False, True]])

    assert Decision().named(chosen, ("a", "b")) == ["a", "b"]
    assert Decision(LabelKind.MULTI).named(np.array([[True, True], [False, False]]), ("a", "b")) == [["a", "b"], []]


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_probabilities_at_any_size(logit: float) -> None:
    (yes,), (no,) = (Decision(LabelKind.MULTI).kind.probabilities(matrix((value,))) for value in (logit, -logit))

    assert 0 <= yes <= 1 and yes + no == pytest.approx(1, abs=1e-12)
    assert (yes >= 0.5) == (logit >= 0) or abs(logit) < 1e-15


def test_two_way_softmax_is_the_sigmoid_of_the_difference() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 2)).astype(np.float32)

    difference = (logits[:, 1] - logits[:, 0])[:, None]
    assert Decision().kind.probabilities(logits)[:, 1] == pytest.approx(
        Decision(LabelKind.MULTI).kind.probabilities(difference)[:, 0], abs=1e-6
    )
