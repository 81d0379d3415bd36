"""Rows that belong together, as the answers to a question: exact match, and intervals for which groups are drawn, not rows.

Rows of a group are often right or wrong together, so that intervals which take them for independent are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.label_kind import Floats
from petkit.metrics.bootstrap import BOOTSTRAPS, Interval, interval_of, macro_f1, matched_interval, ratio, wilson
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
    drawn = draw_groups(sums, lambda total: (ratio(total[:, 0], total[:, 1]),))[0]
    return interval_of(drawn, len(sums))


def difference_interval(difference: NDArray[np.int64], groups: NDArray[np.int64]) -> Interval:
    """Return the 95 % interval of the mean of two classifiers' differences ``(rows,)``, each -1, 0 or 1.

    Where all draws are alike, because the difference is the same in every group, it is that of Agresti and Min for groups.
    """
    sums = np.column_stack([per_group(difference, groups), per_group(np.ones(len(difference)), groups)])
    low, high = np.percentile(draw_groups(sums, lambda total: (total[:, 0] / total[:, 1],))[0], [2.5, 97.5]).tolist()
    return (low, high) if low < high else matched_interval(len(sums) * low, len(sums) * abs(low), len(sums))


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
    return interval_of(micro, counted), interval_of(macro, counted)


def draw_groups(sums: Floats, figures: Callable[[Floats], tuple[Floats, ...]], seed: int = 0) -> list[Floats]:
    """Return bootstrap draws of ``figures``, each of shape ``(draws,)``, from sums over each group, shape ``(groups, sums)``.

    As many groups are drawn as there are, with replacement; ``figures`` takes their totals ``(draws, sums)``.
    """
    random, count = np.random.default_rng(seed), len(sums)
    chunk = max(1, min(BOOTSTRAPS, 4_000_000 // count))
    sizes = (min(chunk, BOOTSTRAPS - start) for start in range(0, BOOTSTRAPS, chunk))
    share = np.full(count, 1 / count)
    found = [figures(random.multinomial(count, share, size=size).astype(np.float64) @ sums) for size in sizes]
    return [np.concatenate(values) for values in zip(*found, strict=True)]
