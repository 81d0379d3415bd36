"""Whether the method was worth it: the paired bootstrap and the words for it, on predictions made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from petkit.metrics.comparison import Comparison, compare, verdict


def right(text: str) -> np.ndarray:
    """Return ``"1101…"`` as whether each row was labelled rightly."""
    return np.array([mark == "1" for mark in text])


def naive_interval(student: np.ndarray, baseline: np.ndarray, draws: int, seed: int) -> tuple[float, float]:
    """Draw rows with replacement, one by one, and judge both on them."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(student), size=(draws, len(student)))
    low, high = np.percentile(student[rows].mean(1) - baseline[rows].mean(1), [2.5, 97.5])
    return float(low), float(high)


def test_differences_are_of_rows() -> None:
    found = compare(right("1110"), right("0100"))

    assert (found.student, found.baseline, found.difference) == (0.75, 0.25, 0.5)


def test_interval_is_that_of_drawing_rows() -> None:
    random = np.random.default_rng(3)
    hard = random.random(300) < 0.3
    student, baseline = (random.random(300) < 0.9) & ~hard, (random.random(300) < 0.8) & ~hard
    found = compare(student, baseline)

    assert found.interval == pytest.approx(naive_interval(student, baseline, 20_000, seed=1), abs=0.005)


def test_rows_hard_for_both_do_not_widen_the_interval() -> None:
    """Paired: how often both are wrong changes nothing."""
    assert compare(right("1010101010"), right("1010101010")).interval == compare(right("1" * 10), right("1" * 10)).interval


def test_interval_depends_on_the_seed_alone() -> None:
    student, baseline = right("1101110111"), right("1001011011")

    assert compare(student, baseline) == compare(student, baseline)
    assert compare(student, baseline, seed=1).difference == compare(student, baseline).difference


THREE = {
    "worth it: student 80.0 %, best baseline tfidf 40.0 %: +40.0 points (+30.0 to +50.0)": (
        "1" * 80 + "0" * 20,
        "1" * 40 + "0" * 60,
    ),
    "not worth it on these rows: student 40.0 %, best baseline tfidf 80.0 %: -40.0 points (-50.0 to -30.0)": (
        "1" * 40 + "0" * 60,
        "1" * 80 + "0" * 20,
    ),
    "no clear difference: student 60.0 %, best baseline tfidf 59.0 %: +1.0 points (-6.0 to +8.0)": (
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
