"""Whether the method was worth it: the interval of Agresti and Min and the words for it, on predictions made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from petkit.metrics.comparison import Comparison, compare, verdict


def right(text: str) -> np.ndarray:
    """Return ``"1101…"`` as whether each row was labelled rightly."""
    return np.array([mark == "1" for mark in text])


def rows_of(better: int, worse: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of so many rows the student and the baseline label rightly; what both do alike is half right."""
    alike = np.arange(rows - better - worse) % 2 == 0
    return (np.r_[alike, np.arange(better + worse) < better], np.r_[alike, np.arange(better + worse) >= better])


def test_differences_are_of_rows() -> None:
    found = compare(right("1110"), right("0100"))

    assert (found.student, found.baseline, found.difference) == (0.75, 0.25, 0.5)


@pytest.mark.parametrize(
    ("better", "worse", "rows", "interval"),
    [
        # ½ more in each cell: 4.5 better, 0.5 worse of 102: (4.5 - 0.5) / 102 ± 1.96 √(4.5 + 0.5 - 4² / 102) / 102
        (4, 0, 100, (0.039216 - 0.042288, 0.039216 + 0.042288)),
        (0, 0, 50, (-0.037691, 0.037691)),  # 0 ± 1.96 √1 / 52
        # The prime minister's approval (Agresti, Categorical Data Analysis): 150.5 and 86.5 of 1,602 changed their minds
        (86, 150, 1600, (-0.039950 - 0.018731, -0.039950 + 0.018731)),
    ],
)
def test_interval_by_hand(better: int, worse: int, rows: int, interval: tuple[float, float]) -> None:
    assert compare(*rows_of(better, worse, rows)).interval == pytest.approx(interval, abs=2e-6)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400))
def test_what_an_exact_test_calls_chance_is_never_worth_it(better: int, worse: int, alike: int) -> None:
    """McNemar's exact test of rows that differ; the interval may only be as sure as its mid-p value (Fagerland 2013)."""
    rows = better + worse + alike
    found = compare(*rows_of(better, worse, rows))
    tail = binom.cdf(min(better, worse), better + worse, 0.5) - binom.pmf(min(better, worse), better + worse, 0.5) / 2

    assert found.outcome == "no clear difference" or 2 * tail < 0.08
    assert compare(*rows_of(worse, better, rows)).interval == pytest.approx([-bound for bound in found.interval[::-1]])


def test_rows_hard_for_both_do_not_widen_the_interval() -> None:
    """Paired: how often both are wrong changes nothing."""
    assert compare(right("1010101010"), right("1010101010")).interval == compare(right("1" * 10), right("1" * 10)).interval


THREE = {
    "worth it: student 80.0 %, best baseline tfidf 40.0 %: +40.0 points (+29.5 to +48.9)": (
        "1" * 80 + "0" * 20,
        "1" * 40 + "0" * 60,
    ),
    "not worth it on these rows: student 40.0 %, best baseline tfidf 80.0 %: -40.0 points (-48.9 to -29.5)": (
        "1" * 40 + "0" * 60,
        "1" * 80 + "0" * 20,
    ),
    "no clear difference: student 60.0 %, best baseline tfidf 59.0 %: +1.0 points (-6.2 to +8.2)": (
        "1" * 53 + "1" * 7 + "0" * 6 + "0" * 34,
        "1" * 53 + "0" * 7 + "1" * 6 + "0" * 34,
    ),
}


@pytest.mark.parametrize("text", THREE)
def test_wording(text: str) -> None:
    student, baseline = THREE[text]
    said = verdict({"majority": compare(right(student), right("0" * 100)), "tfidf": compare(right(student), right(baseline))})

    assert said["outcome"] == text.partition(":")[0] and said["best_baseline"] == "tfidf"
    assert said["text"] == text


def test_an_interval_that_touches_zero_decides_nothing() -> None:
    assert Comparison(0.6, 0.5, 0.1, (0.0, 0.2)).outcome == "no clear difference"
    assert Comparison(0.5, 0.6, -0.1, (-0.2, 0.0)).outcome == "no clear difference"


def test_first_of_equally_good_baselines_is_named() -> None:
    same = Comparison(0.6, 0.5, 0.1, (0.05, 0.15))

    assert verdict({"zero_shot": same, "tfidf": same})["best_baseline"] == "zero_shot"
