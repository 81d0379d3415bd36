"""Comparing a predictor with labelled rows of a file."""

from __future__ import annotations

from itertools import islice

import numpy as np

from petkit.deliver.predictor import CHUNK, Predictor
from petkit.deliver.rows import source_of
from petkit.errors import InvalidInput
from petkit.insight.metrics import Metrics, evaluate_logits


def evaluate_file(predictor: Predictor, path: str) -> Metrics:
    """Predict every row of a labelled file and measure.

    Raises:
        InvalidInput: every bad row, or labels the model does not know.
    """
    source = source_of(path, predictor, labelled=True)
    scan = source.scan()
    if scan.problems:
        raise InvalidInput(scan.problems)
    rows = iter(source)
    blocks, gold = [], []
    while chunk := list(islice(rows, CHUNK)):
        blocks.append(predictor.logits([example.fields for example in chunk]))
        gold += [example.label for example in chunk]
    return evaluate_logits(np.concatenate(blocks), np.array(gold, np.int64), predictor.labels)
