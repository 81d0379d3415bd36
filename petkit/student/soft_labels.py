"""The soft labels of a run as a student learns from them: read shard by shard, and not held where they are many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petkit.ensemble import log_softmax
from petkit.storage.parquet_shards import read_shards
from petkit.storage.row_array import RowArray


@dataclass(frozen=True)
class SoftRows:
    """What stage B says of the unlabelled rows.

    Attributes:
        labels: log-probabilities at the teachers' temperature, shape ``(rows, labels)``; logits divided by it where a row
            may have any number of labels.
        weights: how much each row counts, shape ``(rows,)``.
        kept: the numbers of the rows that count at all.
    """

    labels: RowArray
    weights: RowArray
    kept: RowArray


def read_soft_rows(folder: Path, temperature: float, labels: int, scratch: Path | None, *, multi: bool) -> SoftRows:
    """Read the ``soft_labels`` folder of a finished stage B.

    Args:
        labels: how many there are.
        scratch: where to keep what there is of each row; None: in memory.
    """
    found = SoftRows(
        RowArray(np.float32, (labels,), scratch and scratch / "labels.float32"),
        RowArray(np.float32, path=scratch and scratch / "weights.float32"),
        RowArray(np.int64, path=scratch and scratch / "kept.int64"),
    )
    for shard in read_shards(folder, ["logits", "weight"]):
        logits, weights = shard["logits"], np.asarray(shard["weight"], np.float32)
        found.kept.append(len(found.weights) + np.flatnonzero(weights > 0))
        found.labels.append(logits / np.float32(temperature) if multi else log_softmax(logits, temperature))
        found.weights.append(weights)
    return found
