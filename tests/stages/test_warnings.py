"""What a run says about its own figures: rows seen in training, knowledge lost, a student of one label, untrained ensembles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from petkit.cli.console import show_result
from petkit.metrics import compare
from petkit.stages.evaluation import _collapsed
from tests.tiny_run import run_task

FEW = ("teachers.seeds=[1]", "student.steps=2")


def test_test_rows_in_the_training_file_are_reported_with_the_table(
    pipeline_file: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pipeline_file.parent
    (here / "same.jsonl").write_bytes(next(data.rglob("train.jsonl")).read_bytes())

    result = run_task(pipeline_file, here / "run", f"data.test={here / 'same.jsonl'}", "teachers.steps=1", *FEW)

    assert result.metrics is not None
    (line,) = [line for line in result.metrics["warnings"] if line.startswith("same.jsonl: ")]
    assert f"{result.metrics['rows']} rows are also labelled rows of train" in line
    show_result(result)
    assert f"warning: {line}\n" in capsys.readouterr().out


@pytest.mark.parametrize("calibration", ["none", "contextual", "batch"])
def test_nothing_is_lost_by_a_training_that_changes_nothing(calibration: str, pipeline_file: Path, here: Path) -> None:
    settings = (f"soft_labels.calibration={calibration}", "teachers.learning_rate=1e-12", "teachers.steps=1")

    result = run_task(pipeline_file, here / "run", *settings, *FEW)

    assert result.metrics is not None
    assert not [line for line in result.metrics["warnings"] if "lost" in line]


def test_one_row_fewer_is_noise() -> None:
    untrained = np.arange(20) < 15

    assert compare(np.arange(20) < 14, untrained).interval[1] >= 0
    assert compare(np.arange(20) < 2, untrained).interval[1] < 0


@pytest.mark.parametrize(
    ("given", "gold", "reported"),
    [
        ([0] * 20, [0, 1] * 10, True),
        ([0] * 20, [0] * 20, False),
        ([0, 1] * 10, [0, 1] * 10, False),
        ([0] * 19 + [1], [1] * 20, True),
    ],
)
def test_a_student_of_one_label_is_reported(given: list[int], gold: list[int], reported: bool) -> None:
    rows = np.eye(2, dtype=np.bool_)

    assert bool(_collapsed(rows[given], rows[gold], ("bad", "good"))) is reported


def test_an_untrained_ensemble_is_not_in_the_column_trained(
    pipeline_file: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_result(run_task(pipeline_file, here / "run", "data.train=null", "student.steps=2"))

    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ensemble")]
    assert line.count("%") == 2
