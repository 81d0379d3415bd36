"""The student against its baselines on the same rows: paired interval and verdict. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from petkit.metrics.bootstrap import matched_interval
from petkit.metrics.groups import difference_interval


@dataclass(frozen=True)
class Comparison:
    """The student and one baseline on the same rows, as shares of rows labelled rightly.

    ``difference`` is student minus baseline, ``interval`` its 95 % interval.
    """

    student: float
    baseline: float
    difference: float
    interval: tuple[float, float]

    @property
    def outcome(self) -> Literal["worth it", "not worth it on these rows", "no clear difference"]:
        """The verdict; an interval that contains 0 shows no clear difference."""
        low, high = self.interval
        return "worth it" if low > 0 else "not worth it on these rows" if high < 0 else "no clear difference"


def compare(
    student_right: NDArray[np.bool_], baseline_right: NDArray[np.bool_], groups: NDArray[np.int64] | None = None
) -> Comparison:
    """Compare two classifiers on the same rows by the interval of Agresti and Min; of groups of rows, by a bootstrap of groups.

    A row counts only by which classifier alone labelled it rightly, so that rows that are hard for both do not widen the
    interval (:func:`~petkit.metrics.bootstrap.matched_interval`).

    >>> compare(np.array([True] * 9 + [False]), np.array([True] * 3 + [False] * 7)).outcome
    'worth it'

    Args:
        student_right: whether the student labelled the row rightly, shape ``(rows,)``, at least one row.
        baseline_right: the same of the baseline, for the same rows in the same order.
        groups: the number of each row's group, rising; None where rows stand alone.
    """
    rows = len(student_right)
    if groups is not None:
        difference = student_right.astype(np.int64) - baseline_right
        own, other = float(student_right.mean()), float(baseline_right.mean())
        return Comparison(own, other, float(difference.mean()), difference_interval(difference, groups))
    better, worse = int((student_right & ~baseline_right).sum()), int((baseline_right & ~student_right).sum())
    interval = matched_interval(better - worse, better + worse, rows)
    return Comparison(float(student_right.mean()), float(baseline_right.mean()), (better - worse) / rows, interval)


def verdict(comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    """Compare the student with the best of its baselines (the first of equally good ones); plain data, with one line of ``text``.

    >>> right = np.array([True, True, False, True])
    >>> verdict({"tfidf": compare(right, right)})["text"]
    'no clear difference: student 75.0 %, best baseline tfidf 75.0 %: +0.0 points (-32.7 to +32.7)'
    """
    best = max(comparisons, key=lambda name: comparisons[name].baseline)
    found = comparisons[best]
    low, high = found.interval
    text = (
        f"{found.outcome}: student {100 * found.student:.1f} %, best baseline {best} {100 * found.baseline:.1f} %: "
        f"{100 * found.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    )
    return {"outcome": found.outcome, "best_baseline": best, **asdict(found), "text": text}
