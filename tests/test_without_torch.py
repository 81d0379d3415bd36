"""Rows, settings, patterns and predictions for a runtime that has neither torch nor transformers."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # an import fails

import numpy as np
import petkit.config.loader, petkit.config.schema.pipeline, petkit.data.examples, petkit.prompts.pvp, petkit.storage.parquet_shards
from petkit.ensemble import LabelKind
from petkit.metrics import Decision
from petkit.predict.predictor import Predictor
from petkit.predict.output import json_writer
from petkit.predict.row_io import argument_rows, predict_rows

score = lambda rows: np.tile(np.log(np.float32([0.25, 0.75])), (len(rows), 1))
predictor = Predictor(("a", "b"), ("text",), {}, score, Decision(LabelKind.SINGLE))
write = json_writer(sys.stdout, predictor)
for example, prediction in predict_rows(argument_rows(["one row"], predictor), predictor):
    write(example, prediction)
"""


def test_rows_in_and_predictions_out() -> None:
    answer = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert answer.stderr == ""
    assert answer.stdout.startswith('{"id": "row-1", "text": "one row", "label": "b", "probability": 0.75')
