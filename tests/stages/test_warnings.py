"""What a run says about its own figures: rows seen in training, knowledge lost, a student of one label, untrained ensembles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from petkit.cli.console import show_result
from petkit.events import Event, Notice
from petkit.metrics import compare
from petkit.stages.evaluation import _collapsed
from tests.tiny_run import run_task
from tests.tiny_task import TOPICS, write_rows

FEW = ("teachers.seeds=[1]", "student.steps=2")


def test_test_rows_in_the_training_file_are_reported_with_the_table(
    pipeline_file: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The warning names rows by their ids: the format and the place of the file do not change ``metrics.json``."""
    rows = [json.loads(line) for line in next(pipeline_file.parent.rglob("train.jsonl")).read_text().splitlines()]
    (here / "same.json").write_text(json.dumps(rows, indent=1))

    result = run_task(pipeline_file, here / "run", f"data.test={here / 'same.json'}", "teachers.steps=1", *FEW)

    assert result.metrics is not None
    (line,) = [line for line in result.metrics["warnings"] if "labelled rows" in line]
    ids = ", ".join(row["id"] for row in rows[:5])
    assert line == f"data.test: {len(rows)} rows are also labelled rows of train (ids {ids}); their accuracy says nothing"
    show_result(result)
    assert f"warning: {line}\n" in capsys.readouterr().out


def test_texts_that_the_model_cannot_read_are_reported_once(pipeline_file: Path, here: Path) -> None:
    labels = [label for label in TOPICS for _ in range(2)]
    emoji = [{"text": f"good {sign}", "label": label} for sign, label in zip("😍🎉👍😡👎💩", labels, strict=True)]
    write_rows(here / "emoji.jsonl", emoji)
    heard: list[Event] = []

    files = [f"data.{part}={here / 'emoji.jsonl'}" for part in ("unlabeled", "test")]
    result = run_task(pipeline_file, here / "run", *files, "teachers.steps=1", *FEW, on_event=heard.append)

    remarks = [event.message for event in heard if isinstance(event, Notice) and event.step == "data"]
    found = "6 of 12 tokens (50.0%) are unknown to {}; 6 of 6 rows look to it like a row of another text (use a model of the texts' language)"
    model = str(yaml.safe_load(pipeline_file.read_text())["model"])
    assert remarks == [f"emoji.jsonl: {found.format(model)}"] * 2  # unlabelled rows, test rows
    assert result.metrics is not None
    assert [line for line in result.metrics["warnings"] if "tokens" in line] == [f"data.test: {found.format('the model')}"]


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
