"""The label distribution of the labelled rows, for every row alike: what any method must beat."""

from __future__ import annotations

import numpy as np

from petkit.baselines.base import Baseline, targets
from petkit.ensemble import FloatArray, LabelKind


def majority_logits(targets: FloatArray, rows: int, kind: LabelKind = LabelKind.SINGLE) -> FloatArray:
    """Return the same logits for each of ``rows``, from how often n labelled rows have a label, ``targets (n, labels)``.

    One label per row: the log of each label's share, (count + 1) / (n + labels), so that the most frequent
    label wins, of equally frequent ones the first. Several labels: each label's log-odds,
    (count + 1) / (n - count + 1), so that a row is given the labels of at least half of the labelled rows.
    """
    n, labels = targets.shape
    counts = targets.sum(axis=0, dtype=np.float64)  # (labels,)
    shares = (counts + 1) / (n - counts + 1 if kind.multi else n + labels)
    return np.tile(np.log(shares).astype(np.float32), (rows, 1))


MAJORITY = Baseline(
    lambda task, device, job: (majority_logits(targets(task), task.scans["test"].rows, task.label_kind), {}),
)
