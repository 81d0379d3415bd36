"""Figures where a label is missing or every row is right: no label counts that is not there, and no interval is a point."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from petkit.cli.console import show_metrics
from petkit.ensemble import LabelKind
from petkit.metrics import Decision, Metrics, compare, evaluate
from petkit.metrics.bootstrap import wilson

NAMES = ("+1", "-1", "0")


def figures(predicted: list[int], gold: list[int]) -> Metrics:
    """Return the metrics of rows of one of three labels."""
    scale = np.eye(3, dtype=np.float32)
    return evaluate(5 * scale[predicted], scale[gold], NAMES, Decision())


def several(predicted: NDArray[np.bool_], gold: NDArray[np.bool_]) -> Metrics:
    """Return the metrics of rows of any number of labels."""
    logits = np.where(predicted, 3, -3).astype(np.float32)
    return evaluate(logits, gold.astype(np.float32), NAMES, Decision(LabelKind.MULTI))


def test_labels_in_neither_gold_nor_predictions_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures([0, 0], [0, 0])

    assert found.macro_f1 == 1.0
    absent = found.to_dict()["labels"]["-1"]
    assert absent == {"precision": None, "recall": None, "f1": None, "rows": 0} and type(absent["rows"]) is int
    show_metrics(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert any(line.split() == ["-1", "–", "–", "–", "0"] for line in capsys.readouterr().out.splitlines())


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_macro_f1_is_the_mean_of_what_the_table_shows(rows: list[tuple[int, int]]) -> None:
    predicted, gold = map(list, zip(*rows, strict=True))
    found = figures(predicted, gold)
    shown = [entry.f1 for entry in found.labels.values() if entry.f1 is not None]

    assert found.macro_f1 == pytest.approx(np.mean(shown))
    assert {name for name, entry in found.labels.items() if entry.f1 is None} == {
        NAMES[i] for i in {0, 1, 2} - {*predicted, *gold}
    }


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=12))
def test_no_interval_is_a_point(rows: list[tuple[int, int]]) -> None:
    """Whatever is predicted of how many rows: a share of finitely many rows is uncertain."""
    given_, gold = (np.array([[bool(row[side] >> bit & 1) for bit in range(3)] for row in rows]) for side in (0, 1))
    single = figures(*(list(np.minimum(side.argmax(axis=1), 2)) for side in (given_, gold)))
    for found in (single.to_dict(), several(given_, gold).to_dict()):
        intervals = [value for name, value in found.items() if name.endswith("_interval") and value is not None]
        assert all(0 <= low < high <= 1 for low, high in intervals)


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (1, 1), (20, 20), (0, 7), (3, 9)])
def test_wilson_is_that_of_scipy(right: int, rows: int) -> None:
    expected = binomtest(right, rows).proportion_ci(method="wilson")

    assert wilson(right / rows, rows) == pytest.approx((expected.low, expected.high), abs=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_the_interval_of_accuracy_is_wilson_s(right: list[bool]) -> None:
    """Of one label per row and of several: a share of rows has a closed form."""
    gold = [0] * len(right)
    predicted = [0 if hit else 1 for hit in right]
    chosen, truth = (np.eye(3, dtype=np.bool_)[labels] for labels in (predicted, gold))

    for found in (figures(predicted, gold), several(chosen, truth)):
        assert found.accuracy == pytest.approx(np.mean(right)) and found.accuracy_interval == wilson(found.accuracy, len(right))


def test_all_right_and_all_wrong_have_the_interval_of_their_rows() -> None:
    assert figures([0, 1, 2] * 4, [0, 1, 2] * 4).accuracy_interval == wilson(1.0, 12)
    assert figures([0] * 5, [1] * 5).accuracy_interval == figures([0] * 5, [1] * 5).macro_f1_interval == wilson(0.0, 5)


@given(st.integers(1, 400), st.booleans())
def test_difference_of_classifiers_that_never_disagree_is_uncertain(rows: int, one_sided: bool) -> None:
    always = np.ones(rows, np.bool_)
    low, high = compare(always, ~always if one_sided else always).interval

    assert -1 <= low < high <= 1 and (high == 1.0 or not one_sided)
    assert one_sided or low == pytest.approx(-high)
