"""On which test rows the teachers are evaluated; the student is evaluated on all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from petkit.cli import console
from petkit.storage.parquet_shards import read_shards
from petkit.task import task as task_module
from petkit.teachers import scoring
from tests.tiny_task import run_task


def predictions(run: Path) -> dict[str, list[str | None]]:
    (shard,) = read_shards(run / "evaluation" / "predictions", ["gold", "student", "ensemble"])
    return {name: list(column) for name, column in shard.items()}


def test_teachers_are_evaluated_on_a_sample(
    pipeline_file: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = predictions(copy)
    monkeypatch.setattr(task_module, "TEACHER_TEST_ROWS", 6)
    scored: list[int] = []
    own = scoring.label_logits
    monkeypatch.setattr(
        scoring, "label_logits", lambda model, rows, *more: (scored.append(len(rows)), own(model, rows, *more))[1]
    )
    result = run_task(pipeline_file, copy, force="evaluation")
    metrics = result.metrics

    assert metrics is not None and scored == [*[6] * 6, 15]  # two patterns, four teachers, the student
    assert (metrics["rows"], metrics["teacher_rows"]) == (15, 6)
    assert metrics["student"]["rows"] == 15 and metrics["ensemble"]["rows"] == 6
    found = predictions(copy)
    assert found["student"] == whole["student"]
    chosen = [row for row, label in enumerate(found["ensemble"]) if label is not None]
    assert len(chosen) == 6 and [found["ensemble"][row] for row in chosen] == [whole["ensemble"][row] for row in chosen]
    right = np.mean([found["ensemble"][row] == found["gold"][row] for row in chosen])
    assert metrics["ensemble"]["accuracy"] == pytest.approx(right)
    console.show_result(result)
    assert "teachers and ensemble: on 6 of them, drawn at random (evaluation.teachers: all)" in capsys.readouterr().out


def test_the_student_alone_is_evaluated(pipeline_file: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run_task(pipeline_file, copy).metrics
    result = run_task(pipeline_file, copy, "evaluation.teachers=none", force="stale")

    assert before is not None and result.metrics is not None and result.ran == ("evaluation",)
    assert result.metrics["student"] == before["student"]
    assert result.metrics.keys() == {"rows", "label_kind", "student", "warnings"}
    console.show_result(result)
    shown = capsys.readouterr().out
    assert "student" in shown and "ensemble" not in shown and "teacher" not in shown


def test_all_rows_where_they_are_few_or_asked_for(pipeline_file: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_task(pipeline_file, copy).metrics
    assert run_task(pipeline_file, copy, "evaluation.teachers=all").ran == ()
    monkeypatch.setattr(task_module, "TEACHER_TEST_ROWS", 6)
    every = run_task(pipeline_file, copy, "evaluation.teachers=all", force="stale").metrics

    assert before is not None and before["teacher_rows"] == 15 and every == before
