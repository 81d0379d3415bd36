"""Classifiers that other tools made: their labels in files, by the names and numbers that the model gives them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from petkit import Predictor
from petkit.errors import InvalidInput
from petkit.predict.row_io import evaluate_file


def classifier(folder: Path, backbone: Path, *names: str) -> Predictor:
    """Return a predictor of a plain transformers folder, with these labels or transformers' own."""
    shutil.copytree(backbone, folder)
    named = {"id2label": dict(enumerate(names))} if names else {"num_labels": 2}
    AutoModelForSequenceClassification.from_pretrained(backbone, **named).save_pretrained(folder)
    return Predictor.load(folder)


@pytest.mark.parametrize("labels", ["0 1", "LABEL_0 LABEL_1", "1.0 LABEL_1"])
def test_names_that_transformers_gives_are_class_numbers(
    labels: str, here: Path, model_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = classifier(here / "m", model_folder("bert"))
    (here / "gold.csv").write_text("text,label\n" + "".join(f"the game was great,{label}\n" for label in labels.split()))

    found = evaluate_file(predictor, "gold.csv")

    assert {name: row.rows for name, row in found.labels.items()} == (
        {"LABEL_0": 0, "LABEL_1": 2} if labels.startswith("1.0") else {"LABEL_0": 1, "LABEL_1": 1}
    )


@pytest.mark.parametrize(("gold", "hint"), [("1", "known: negative, positive"), ("positiv", "did you mean 'positive'?")])
def test_other_labels_are_those_of_the_model(gold: str, hint: str, here: Path, model_folder: Callable[[str], Path]) -> None:
    """Which class number means which of their names is not known: checkpoints of one task differ in it."""
    predictor = classifier(here / "m", model_folder("bert"), "negative", "positive")
    (here / "gold.csv").write_text(f"text,label\nthe game was great,{gold}\n")

    with pytest.raises(InvalidInput) as refused:
        evaluate_file(predictor, "gold.csv")

    assert str(refused.value) == f"gold.csv:2: label: label {gold!r} is not a label of the model ({hint})"
