"""The probe: its vectors are the mean of the frozen backbone's, and it learns from them alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer

from tests.baselines.test_baselines import GOLD, TEST, TRAIN, accuracy, do
from tests.tiny_task import write_task


@pytest.mark.parametrize("arch", ["bert", "modernbert", "gpt2"])
def test_the_vectors_are_the_mean_of_each_row(arch: str, model_folder: Callable[[str], Path], here: Path) -> None:
    pipeline_file = write_task(here / "task", model_folder(arch))
    model = AutoModel.from_pretrained(model_folder(arch)).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder(arch))

    def vectors(rows: list[dict[str, str]]) -> np.ndarray:
        """One row at a time, without padding."""
        with torch.no_grad():
            read = [model(**tokenizer(row["text"], return_tensors="pt"))[0][0].mean(0) for row in rows]
        return torch.stack(read).numpy()

    record, predictions = do(pipeline_file, here / "run", "probe", "patterns=[{id: one, text: '{text} {mask}'}]")
    regression = LogisticRegression(C=record["settings"]["C"], max_iter=1000)
    expected = regression.fit(vectors(TRAIN), [index % 3 for index in range(9)]).decision_function(vectors(TEST))

    np.testing.assert_allclose(predictions["logits"], log_softmax(expected, axis=1), atol=0.05)  # the solver stops early
    assert record["metrics"]["accuracy"] == accuracy(predictions["logits"])
    assert record["settings"]["pooling"] == "mean" and len(GOLD) == len(predictions["id"])


def test_an_adapter_of_the_student_is_not_part_of_it(pipeline_file: Path, here: Path) -> None:
    plain = do(pipeline_file, here / "plain", "probe")[1]["logits"]
    adapted = do(pipeline_file, here / "adapted", "probe", "student.adapter={kind: prompt_tuning, tokens: 3}")[1]["logits"]
    np.testing.assert_array_equal(plain, adapted)
