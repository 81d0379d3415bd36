"""Answers to questions: a run, its table, ``evaluate`` and resume with rows that belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from petkit.cli.console import show_result
from petkit.predict.predictor import Predictor
from petkit.predict.row_io import evaluate_file
from petkit.stages.pipeline import RunResult
from petkit.storage.parquet_shards import read_shards
from petkit.task import task as task_module
from petkit.task.task import Task
from tests.tiny_task import load, planned, rows, run_task, write_rows, write_task

QUICK = ("teachers.seeds=[1]", "teachers.steps=20", "student.steps=20", "baselines=[majority]")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """The pipeline of the tiny task, whose 15 test rows are 5 groups of 3."""
    pipeline = write_task(tmp_path_factory.mktemp("grouped"), model_folder("bert"))
    write_rows(
        pipeline.parent / "test.jsonl", [{**row, "question": f"q{number // 3}"} for number, row in enumerate(rows(15, 15))]
    )
    return pipeline


@pytest.fixture(scope="module")
def result(grouped: Path) -> RunResult:
    return run_task(grouped, grouped.parent / "run", *QUICK, "data.group=question")


def test_metrics_have_the_share_of_whole_groups(grouped: Path, result: RunResult) -> None:
    (shard,) = read_shards(result.folder / "evaluation" / "predictions", ["gold", "student"])
    right = np.array([gold == own for gold, own in zip(shard["gold"], shard["student"], strict=True)])
    metrics = json.loads((result.folder / "evaluation" / "metrics.json").read_text())

    assert metrics["student"]["grouped"]["groups"] == metrics["ensemble"]["grouped"]["groups"] == 5
    assert metrics["student"]["grouped"]["exact_match"] == pytest.approx(right.reshape(5, 3).all(axis=1).mean())
    assert result.metrics is not None and result.metrics["baselines"]["majority"]["metrics"]["grouped"]["exact_match"] == 0


def test_the_table_shows_them(result: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    show_result(result)

    assert "all rows of a group right" in capsys.readouterr().out


def test_evaluate_says_the_same(grouped: Path, result: RunResult) -> None:
    predictor, file = Predictor.load(result.folder), str(grouped.parent / "test.jsonl")
    assert result.metrics is not None

    found = json.loads(json.dumps(evaluate_file(predictor, file, group="question").to_dict()))

    assert found["grouped"] == result.metrics["student"]["grouped"]
    assert evaluate_file(predictor, file).grouped is None


def test_only_the_evaluation_depends_on_groups(grouped: Path, result: RunResult) -> None:
    plan = planned(grouped, result.folder, *QUICK)

    assert {name for name, step in plan.items() if step.action == "stale"} == {"evaluation", "baselines/majority"}


def test_teachers_are_evaluated_on_whole_groups(grouped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "TEACHER_TEST_ROWS", 5)
    sample = Task.checked(load(grouped, "data.group=question")).teacher_test_rows

    assert len(sample) == 6 and {*(sample % 3)} == {0, 1, 2} and len({*(sample // 3)}) == 2


def test_groups_of_rows_that_are_left_out(grouped: Path, here: Path) -> None:
    """The second group loses its first row, the last group all of its rows."""
    lines = [json.loads(line) for line in (grouped.parent / "test.jsonl").read_text().splitlines()]
    for number in (3, 12, 13, 14):
        lines[number]["text"] = " "
    write_rows(here / "test.jsonl", lines)
    task = Task.checked(load(grouped, f"data.test={here / 'test.jsonl'}", "data.group=question", "data.empty=skip"))

    assert task.scans["test"].groups is not None
    assert task.scans["test"].groups.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(list(task.rows("test"))) == 11
