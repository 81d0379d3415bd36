"""Figures of rows that belong together: by hand, and intervals against resampling groups one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from petkit.data.groups import drawn_groups, numbers_of
from petkit.ensemble import LabelKind
from petkit.metrics import Decision, MultiLabelMetrics, compare, evaluate
from petkit.metrics.bootstrap import wilson
from petkit.metrics.groups import GroupMetrics, accuracy_interval, f1_intervals, group_metrics, per_group

Numbers = NDArray[np.int64]


def test_exact_match_by_hand() -> None:
    """Three questions of 2, 1 and 3 answers; one answer of the third is wrong."""
    right = np.array([True, True, True, True, False, True])
    found = group_metrics(right, np.array([0, 0, 1, 2, 2, 2]))

    assert found == GroupMetrics(3, pytest.approx(2 / 3), wilson(2 / 3, 3))


def test_figures_of_groups_are_in_the_metrics() -> None:
    logits, targets = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0]], np.float32), np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    found = evaluate(logits, targets, ("no", "yes"), Decision(), np.array([0, 0, 1, 1])).to_dict()
    alone = evaluate(logits, targets, ("no", "yes"), Decision()).to_dict()

    assert found.pop("grouped") == {"groups": 2, "exact_match": 0.5, "exact_match_interval": wilson(0.5, 2)}
    intervals = ("accuracy_interval", "macro_f1_interval")
    assert {key: value for key, value in found.items() if key not in intervals} == {
        key: value for key, value in alone.items() if key not in intervals
    }


def test_rows_of_several_labels_have_groups_too() -> None:
    logits = np.array([[1, -1], [1, 1], [-1, -1]], np.float32)
    targets = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    found = evaluate(logits, targets, ("a", "b"), Decision(LabelKind.MULTI), np.array([0, 1, 1]))

    assert isinstance(found, MultiLabelMetrics) and found.grouped is not None
    assert found.grouped.exact_match == 0.5 and found.micro_f1_interval is not None


def by_hand(rows_of: list[Numbers], figure: object, draws: int = 4000) -> NDArray[np.float64]:
    """Draw groups with replacement, one by one, and return the interval of a figure of their rows."""
    random = np.random.default_rng(7)
    drawn = [np.concatenate([rows_of[index] for index in random.integers(len(rows_of), size=len(rows_of))]) for _ in range(draws)]
    assert callable(figure)
    return np.percentile([figure(rows) for rows in drawn], [2.5, 97.5])


def case(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Numbers, list[Numbers]]:
    """Return what is given and gold ``(rows, 2)`` of groups that tend to be right or wrong together."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(30), random.integers(1, 9, size=30))
    share = random.choice([0.3, 0.95], size=30)[groups]
    gold = random.integers(2, size=len(groups))
    given_ = np.where(random.random(len(groups)) < share, gold, 1 - gold)
    each = np.arange(2)
    return given_[:, None] == each, gold[:, None] == each, groups, [np.flatnonzero(groups == group) for group in range(30)]


@pytest.mark.parametrize("seed", [0, 1])
def test_intervals_are_those_of_drawn_groups(seed: int) -> None:
    given_, gold, groups, rows_of = case(seed)
    right = (given_ == gold).all(axis=1)

    def macro(rows: Numbers) -> float:
        hits, either = (given_ & gold)[rows].sum(axis=0), given_[rows].sum(axis=0) + gold[rows].sum(axis=0)
        return float((2 * hits[either > 0] / either[either > 0]).mean())

    def widened(interval: NDArray[np.float64], middle: float) -> list[float]:
        """Student's t with 29 degrees of freedom has 2.0452 where the normal distribution has 1.96."""
        factor = 2.0452 / 1.95996 * np.sqrt(30 / 29)
        return [float(middle + factor * (end - middle)) for end in interval]

    every = np.arange(len(right))
    accuracy = widened(by_hand(rows_of, lambda rows: right[rows].mean()), right.mean())
    assert accuracy_interval(right, groups) == pytest.approx(accuracy, abs=0.02)
    assert f1_intervals(given_, gold, groups)[1] == pytest.approx(widened(by_hand(rows_of, macro), macro(every)), abs=0.02)


def test_intervals_of_groups_are_wider_where_rows_agree() -> None:
    right = np.repeat(np.arange(20) % 2 == 0, 10)
    low, high = accuracy_interval(right, np.repeat(np.arange(20), 10))
    alone = wilson(0.5, 200)

    assert high - low > 2 * (alone[1] - alone[0])
    assert accuracy_interval(np.ones(8, bool), np.repeat(np.arange(4), 2)) == wilson(1.0, 4)  # four groups, not eight rows


def test_comparison_draws_groups() -> None:
    """Ten groups of ten rows; in six all rows are better, in four none: as rows clearly better, as groups not."""
    student, baseline = np.repeat(np.arange(10) < 6, 10), np.repeat(np.arange(10) >= 6, 10)
    rows, grouped = compare(student, baseline), compare(student, baseline, np.repeat(np.arange(10), 10))

    assert rows.outcome == "worth it" and grouped.outcome == "no clear difference"
    assert rows.difference == grouped.difference == pytest.approx(0.2)
    assert (grouped.student, grouped.baseline) == (0.6, 0.4)


def test_same_difference_in_every_group_is_not_certain() -> None:
    student, baseline = np.ones(12, bool), np.tile([True, False], 6)
    low, high = compare(student, baseline, np.repeat(np.arange(6), 2)).interval

    assert (low, high) == pytest.approx((-0.0404, 0.7904), abs=1e-3)  # 3 of 8 ± 1.96 · √((4/8 - (3/8)²) / 8)


def test_groups_of_one_row_are_rows() -> None:
    right = np.arange(200) % 3 > 0
    assert accuracy_interval(right, np.arange(200)) == pytest.approx(wilson(right.mean(), 200), abs=0.01)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(1, 60))
def test_whole_groups_are_drawn_until_there_are_enough_rows(sizes: list[int], rows: int) -> None:
    starts = np.cumsum([0, *sizes[:-1]])
    groups = numbers_of(starts.tolist(), sum(sizes))
    drawn = drawn_groups(groups, rows)

    assert np.bincount(groups).tolist() == sizes == per_group(np.ones(len(groups)), groups).tolist()
    assert sorted(drawn) == drawn.tolist() and len({*drawn}) == len(drawn) >= min(rows, len(groups))
    whole = [set(np.flatnonzero(groups == group)) for group in {*groups[drawn].tolist()}]
    assert set().union(*whole) == {*drawn.tolist()}
    assert len(drawn) - max(map(len, whole)) < rows  # no more groups than it takes


@pytest.mark.parametrize("groups", [2, 3, 5, 10])
def test_few_groups_do_not_decide_by_chance(groups: int) -> None:
    """Two classifiers that are equally good, each right or wrong by groups: one verdict in twenty may be wrong."""
    random, wrong = np.random.default_rng(groups), 0
    for _ in range(150):
        numbers = np.repeat(np.arange(groups), 8)
        one, other = (random.random(8 * groups) < random.beta(2, 2, size=groups)[numbers] for _ in range(2))
        wrong += compare(one, other, numbers).outcome != "no clear difference"

    assert wrong <= 15


def test_one_group_says_nothing() -> None:
    right = np.array([True, True, False])
    assert accuracy_interval(right, np.zeros(3, np.int64)) == (0.0, 1.0)
    assert compare(right, ~right, np.zeros(3, np.int64)).outcome == "no clear difference"
