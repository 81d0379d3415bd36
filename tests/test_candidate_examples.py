"""The examples whose rows have candidate answers of their own, from end to end on the embedded model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import petkit
from tests.library import ROOT

COLUMNS = {"copa": ("choice1", "choice2"), "record": ("options",), "wsc": ("options",)}
TEACHERS = {"copa": 2, "record": 1, "wsc": 2}


def rows(name: str, part: str) -> list[dict[str, Any]]:
    text = (ROOT / "examples" / name / "data" / f"{part}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def candidates(name: str, row: dict[str, Any]) -> list[str]:
    cells = [row[column] for column in COLUMNS[name]]
    return cells if name == "copa" else cells[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", COLUMNS)
def test_it_beats_chance_and_answers_with_a_candidate(name: str, tmp_path: Path) -> None:
    result = petkit.run(ROOT / "examples" / name / "pipeline.yaml", tmp_path / "run")

    labelled, tested = rows(name, "train"), rows(name, "test")
    chance = len(labelled) / sum(len(candidates(name, row)) for row in labelled)
    teachers = [json.loads(path.read_text()) for path in result.folder.glob("stage_a/*/model/teacher.json")]
    assert len(teachers) == TEACHERS[name]
    for teacher in teachers:
        assert teacher["trained_accuracy"] > chance + 0.15
        assert teacher["trained_accuracy"] > teacher["untrained_accuracy"]

    metrics = json.loads((result.folder / "evaluation" / "metrics.json").read_text())
    assert metrics["rows"] == metrics["teacher_rows"] == len(tested)
    for source in ("ensemble", "student"):
        assert 0 <= metrics[source]["accuracy"] < metrics[source]["answer_f1"] + 1e-9 <= 1 + 1e-9
    assert pq.read_table(result.folder / "evaluation" / "predictions").num_rows == len(tested)

    for with_teachers, source in ((False, "student"), (True, "ensemble")):
        answers = petkit.Predictor.load(result.folder, teachers=with_teachers)(tested)
        right = 0
        for row, answer in zip(tested, answers, strict=True):
            own = candidates(name, row)
            assert answer.label == own[answer.candidate or 0] and list(answer.probabilities) == own
            assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
            accepted = row["label"] if isinstance(row["label"], list) else [row["label"]]
            right += answer.label in accepted or answer.candidate in accepted
        assert right / len(tested) == pytest.approx(metrics[source]["accuracy"])


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_are_a_fair_problem(name: str) -> None:
    parts = {part: rows(name, part) for part in ("train", "unlabeled", "test")}
    every = [json.dumps({**row, "label": None}, sort_keys=True) for part in parts.values() for row in part]

    assert len(set(every)) == len(every)
    assert 12 <= len(parts["train"]) <= 16 and len(parts["unlabeled"]) >= 30
    assert not any("label" in row for row in parts["unlabeled"])
    for row in parts["train"]:
        own = candidates(name, row)
        assert len({*own}) == len(own) >= 2
        assert row["label"] in (range(len(own)) if name == "copa" else own)
