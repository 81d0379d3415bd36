"""The metrics of a predictor on the labelled rows of a file."""

from __future__ import annotations

from itertools import islice

import numpy as np

from petkit.data.examples import targets_of
from petkit.errors import InvalidInput
from petkit.metrics import Metrics, evaluate
from petkit.predict.predictor import CHUNK, Predictor
from petkit.predict.row_io import source_of


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
    blocks, targets = [], []
    while chunk := list(islice(rows, CHUNK)):
        blocks.append(predictor.logits([example.fields for example in chunk]))
        targets.append(targets_of(chunk, len(predictor.labels)))
    return evaluate(np.concatenate(blocks), np.concatenate(targets), predictor.labels, predictor.decision)
