"""95 % intervals: Wilson's for a share, Agresti and Min's for a difference, a percentile bootstrap for F1. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble.label_kind import Floats
from petkit.metrics.decision import Chosen

BOOTSTRAPS = 2000
Z = 1.959964  # of a 95 % interval, in standard deviations

Counts: TypeAlias = NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]


def bootstrap_confusion(confusion: Counts, seed: int = 0) -> Interval | None:
    """Return the 95 % interval of macro-F1, rows having one label."""

    def figures(draws: Counts) -> tuple[Floats, ...]:
        tables = draws.reshape(-1, *confusion.shape)
        hits = np.diagonal(tables, axis1=1, axis2=2)  # (draws, labels)
        return (macro_f1(hits, tables.sum(axis=1) + tables.sum(axis=2)),)

    return _bootstrap(confusion.reshape(-1), figures, int(confusion.sum()), seed)[0]


def bootstrap_decisions(chosen: Chosen, gold: Chosen, seed: int = 0) -> list[Interval | None]:
    """Return 95 % intervals of micro-F1 and macro-F1; arguments ``(rows, labels)``."""
    outcomes, counts = np.unique(np.hstack([chosen, gold]), axis=0, return_counts=True)
    chosen, gold = np.hsplit(outcomes, 2)  # (outcomes, labels)
    # As floats: numpy multiplies whole numbers slowly, and these are exact.
    both, either = (chosen & gold).astype(float), chosen.astype(float) + gold

    def figures(draws: Counts) -> tuple[Floats, ...]:
        hits, total = draws @ both, draws @ either  # (draws, labels)
        return ratio(2 * hits.sum(axis=1), total.sum(axis=1)), macro_f1(hits, total)

    labelled = int(counts[either.any(axis=1)].sum())  # the rows that F1 depends on
    return _bootstrap(counts, figures, labelled, seed)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Return ``part / whole``, NaN where ``whole`` is 0; arguments of one shape."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def macro_f1(hits: NDArray[Any], total: NDArray[Any]) -> Floats:
    """Return the mean F1 of the labels that occur or are predicted ``(draws,)``, from counts ``(draws, labels)``."""
    return ratio(np.nansum(ratio(2 * hits, total), axis=1), (total > 0).sum(axis=1))


def _bootstrap(
    counts: Counts, figures: Callable[[Counts], tuple[Floats, ...]], rows_counted: int, seed: int
) -> list[Interval | None]:
    """Return a percentile bootstrap interval of each of ``figures``, computed from how often each outcome occurs.

    Rows matter only through their outcome, so drawing rows with replacement is a multinomial draw of outcomes. Where all
    draws are alike, as those of rows that are all right, the interval is Wilson's.

    Args:
        counts: shape ``(outcomes,)``; ``figures`` takes draws of shape ``(draws, outcomes)``.
        rows_counted: number of rows that the figures depend on; without any they have no interval.
    """
    return [interval_of(values, rows_counted) if rows_counted else None for values in drawn(counts, figures, seed)]


def drawn(counts: Counts, figures: Callable[[Counts], tuple[Floats, ...]], seed: int = 0) -> list[Floats]:
    """Return bootstrap draws of ``figures``, each of shape ``(draws,)``; arguments as of the interval's."""
    random, rows = np.random.default_rng(seed), int(counts.sum())
    # A few hundred draws at a time: many labels make many outcomes.
    chunk = max(1, min(BOOTSTRAPS, 4_000_000 // len(counts)))
    sizes = (min(chunk, BOOTSTRAPS - start) for start in range(0, BOOTSTRAPS, chunk))
    found = [figures(random.multinomial(rows, counts / rows, size=size)) for size in sizes]
    return [np.concatenate(values) for values in zip(*found, strict=True)]


def interval_of(draws: Floats, rows: int) -> Interval:
    """Return the interval that 95 % of the draws are in; a draw without any label has no F1."""
    low, high = np.nanpercentile(draws, [2.5, 97.5]).tolist()
    return wilson(low, rows) if low == high else (low, high)


def wilson(share: float, rows: int) -> Interval:
    """Return the 95 % score interval of a share of rows (Wilson 1927), which has a width for 0 and 100 % too.

    >>> low, high = wilson(1.0, rows=20)
    >>> round(low, 3), high
    (0.839, 1.0)
    """
    middle, half = share + Z**2 / (2 * rows), Z * np.sqrt(share * (1 - share) / rows + (Z / (2 * rows)) ** 2)
    low, high = (float((middle + side * half) / (1 + Z**2 / rows)) for side in (-1, 1))
    return (0.0 if share == 0 else low, 1.0 if share == 1 else high)


def matched_interval(difference: float, changes: float, rows: int) -> Interval:
    """Return the interval of a difference of matched shares, from the rows by which one is better, and those that differ at all.

    It is Wald's with half a row more in each of the four cells, which keeps its level where few rows differ (Agresti and Min,
    "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005, 729-740).
    """
    middle = difference / (rows + 2)
    half = Z * math.sqrt(((changes + 1) / (rows + 2) - middle**2) / (rows + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)
