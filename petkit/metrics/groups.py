"""Rows that belong together, as the answers to a question: exact match, and intervals for which groups are drawn, not rows.

Rows of a group are often right or wrong together, so that intervals which take them for independent are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.label_kind import Floats
from petkit.metrics.bootstrap import Interval, Z, drawn, macro_f1, matched_interval, ratio, wilson
from petkit.metrics.decision import Chosen


@dataclass(frozen=True)
class GroupMetrics:
    """The figures of groups: how many there are, and the share of those whose rows are all right (MultiRC's exact match).

    Where they are one per question, F1 over all answers is the F1 of the label that says an answer is right.
    """

    groups: int
    exact_match: float
    exact_match_interval: Interval


def group_metrics(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> GroupMetrics:
    """Return the figures of groups.

    >>> group_metrics(np.array([True, True, True, False]), np.array([0, 0, 1, 1])).exact_match
    0.5

    Args:
        right: whether each row was labelled rightly, shape ``(rows,)``.
        groups: the number of each row's group, from 0 or in any case rising, shape ``(rows,)``.
    """
    wrong = per_group(~right, groups)  # (groups,)
    share = float((wrong == 0).mean())
    return GroupMetrics(len(wrong), share, wilson(share, len(wrong)))


def per_group(values: NDArray[np.generic], groups: NDArray[np.int64]) -> Floats:
    """Return the sum of values ``(rows,)`` or ``(rows, …)`` over the rows of each group, shape ``(groups,)`` or ``(groups, …)``."""
    starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    return np.add.reduceat(np.asarray(values, np.float64), starts, axis=0)


def accuracy_interval(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Interval:
    """Return the 95 % interval of the share of rows that are right; arguments as of :func:`group_metrics`."""
    sums = np.column_stack([per_group(right, groups), per_group(np.ones(len(right)), groups)])
    shares = draw_groups(sums, lambda total: (ratio(total[:, 0], total[:, 1]),))[0]
    return _interval(shares, float(right.mean()), len(sums))


def difference_interval(difference: NDArray[np.int64], groups: NDArray[np.int64]) -> Interval:
    """Return the 95 % interval of the mean of two classifiers' differences ``(rows,)``, each -1, 0 or 1.

    Where all draws are alike, because the difference is the same in every group, it is that of Agresti and Min for groups.
    """
    sums = np.column_stack([per_group(difference, groups), per_group(np.ones(len(difference)), groups)])
    means, middle = draw_groups(sums, lambda total: (total[:, 0] / total[:, 1],))[0], float(difference.mean())
    if (means == means[0]).all():
        return matched_interval(len(sums) * middle, len(sums) * abs(middle), len(sums))
    return _interval(means, middle, len(sums), least=-1.0)


def f1_intervals(chosen: Chosen, gold: Chosen, groups: NDArray[np.int64]) -> tuple[Interval | None, Interval | None]:
    """Return 95 % intervals of micro-F1 and macro-F1; arguments ``(rows, labels)`` and the groups ``(rows,)``."""
    labels = chosen.shape[1]
    sums = np.hstack([per_group(chosen & gold, groups), per_group(chosen.astype(int) + gold, groups)])

    def figures(total: Floats) -> tuple[Floats, ...]:
        hits, either = total[:, :labels], total[:, labels:]  # (draws, labels)
        return ratio(2 * hits.sum(axis=1), either.sum(axis=1)), macro_f1(hits, either)

    counted = int((sums[:, labels:].sum(axis=1) > 0).sum())  # the groups that F1 depends on
    if not counted:
        return None, None
    micro, macro = draw_groups(sums, figures)
    found = (float(figure[0]) for figure in figures(sums.sum(axis=0, keepdims=True)))
    return _interval(micro, next(found), counted), _interval(macro, next(found), counted)


def draw_groups(sums: Floats, figures: Callable[[Floats], tuple[Floats, ...]]) -> list[Floats]:
    """Return bootstrap draws of ``figures``, each of shape ``(draws,)``, from sums over each group, shape ``(groups, sums)``.

    As many groups are drawn as there are, with replacement; ``figures`` takes their totals ``(draws, sums)``.
    """
    return drawn(np.ones(len(sums), np.int64), lambda draws: figures(draws.astype(np.float64) @ sums))


def _interval(draws: Floats, middle: float, groups: int, least: float = 0.0) -> Interval:
    """Return the interval that 95 % of the draws are in, widened about the figure itself for few groups.

    Drawn groups vary too little by ``(groups - 1) / groups``, and their variance is itself known from so many only: the widths
    are multiplied by ``t / z · sqrt(groups / (groups - 1))``, t Student's with ``groups - 1`` degrees of freedom. Where all draws
    are alike, as where all rows are right, it is Wilson's; of one group nothing is known.
    """
    from scipy.stats import t

    if groups == 1:
        return least, 1.0
    low, high = np.nanpercentile(draws, [2.5, 97.5]).tolist()
    if low == high:
        return wilson(middle, groups)
    wider = float(t.ppf(0.975, groups - 1)) / Z * math.sqrt(groups / (groups - 1))
    return max(least, middle - wider * max(0.0, middle - low)), min(1.0, middle + wider * max(0.0, high - middle))
