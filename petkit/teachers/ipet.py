"""iPET: the unlabelled rows that a teacher of a later generation is trained on, and their labels (PET, section 3.4).

For every label, rows that other teachers predict to have it are sampled with probability proportional to their
confidence; the training set grows by ``scale``, and the ratio of the labels stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petkit.ensemble import FloatArray, log_softmax


@dataclass(frozen=True)
class PseudoLabels:
    """Sampled rows of the unlabelled set and their labels; ``shortages`` describes labels with fewer rows than wanted."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    shortages: tuple[str, ...]


def choose_labellers(count: int, share: float, random: np.random.Generator) -> list[int]:
    """Return which of ``count`` other teachers label the rows: a random ``share`` of them, at least one."""
    size = max(1, min(count, round(share * count)))
    return sorted(random.choice(count, size, replace=False).tolist())


def wanted_counts(gold: Sequence[int], scale: float, generation: int, per_label_from_zero: int, unlabeled_rows: int) -> list[int]:
    """Return the number of unlabelled rows of each label in the training set of a generation, from 1.

    With labelled rows (``gold``: ``c_0``) ``c_0(l) · scale^generation - c_0(l)``, as they stay in the set; without,
    ``per_label_from_zero`` in the first generation and ``scale`` times as many in each further one. Where the unlabelled
    set is smaller than the sum, all labels shrink alike.
    """
    if any(gold):
        wanted = [count * scale**generation - count for count in gold]
    else:
        wanted = [per_label_from_zero * scale ** (generation - 1)] * len(gold)
    total = sum(wanted)
    if total > unlabeled_rows:
        return [int(count * unlabeled_rows / total) for count in wanted]
    return [int(count + 0.5) for count in wanted]


def mean_probabilities(logits: Iterable[FloatArray]) -> NDArray[np.float64]:
    """Return the mean of several teachers' probabilities from their logits, one in memory at a time; all ``(rows, labels)``."""
    total: NDArray[np.float64] = np.zeros(())
    teachers = 0
    for own in logits:
        total = total + np.exp(log_softmax(own))
        teachers += 1
    return total / teachers


def draw_rows(
    probabilities: NDArray[np.float64],
    wanted: Sequence[int],
    names: Sequence[str],
    random: np.random.Generator,
    *,
    most_likely: bool,
) -> PseudoLabels:
    """Draw rows per label, no row twice.

    Args:
        probabilities: of the labels, shape ``(rows, labels)``.
        most_likely: take each label's most likely rows instead of drawing (the first generation from zero labels). A
            label predicted for too few rows then gets others, since untrained teachers may never predict it; a row that
            several such labels want goes to the one it is likeliest for.
    """
    given = np.full(len(probabilities), -1, np.int64)  # the label each row is learned under
    missing = np.array(wanted, np.int64)
    lacking = np.ones(len(missing), bool)
    while lacking.any() and (given < 0).any():
        # Of the labels that still lack rows, each row's likeliest one may have it.
        favourites = np.where(lacking, probabilities, -1.0).argmax(axis=1)
        for label in np.flatnonzero(lacking):
            candidates = np.flatnonzero((given < 0) & (favourites == label))
            keys = probabilities[candidates, label]
            if not most_likely:
                # Gumbel noise on log-weights draws without replacement in proportion to the weights (Kool et al. 2019).
                keys = np.log(keys) + random.gumbel(size=len(candidates))
            chosen = candidates[np.argsort(-keys, kind="stable")][: missing[label]]
            given[chosen] = label
            missing[label] -= len(chosen)
        if not most_likely:
            break
        lacking = missing > 0
    labels = np.arange(len(missing))
    rows = [np.flatnonzero(given == label) for label in labels]
    shortages = [f"{names[label]!r} has {len(rows[label])} of {wanted[label]} rows" for label in labels[missing > 0]]
    return PseudoLabels(np.concatenate(rows), np.repeat(labels, [len(own) for own in rows]), tuple(shortages))
