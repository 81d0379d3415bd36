"""Rows of several labels and rows on a scale, from pipeline to predictions; and what the evaluation tells of untrained models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit import Predictor
from petkit.cli.console import show_result
from petkit.config.schema.pipeline import ComputeSpec
from petkit.events import Event, Notice
from petkit.predict.row_io import evaluate_file
from petkit.stages.pipeline import RunResult
from petkit.storage.parquet_shards import read_shards
from tests.tiny_run import FirstRun
from tests.tiny_task import FILLERS, LABEL_WORDS, TOPICS, run_task, write_rows, write_task

LABELS = tuple(LABEL_WORDS)


def several_rows(count: int, seed: int, separator: str | None = None) -> list[dict[str, Any]]:
    """Return rows of none to three labels, each reported by two words; as lists, or as text with a separator."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        labels = [label for bit, label in enumerate(TOPICS) if index & 1 << bit]
        words = [*random.choice(FILLERS, 3)]
        words += [word for label in labels for word in random.choice(TOPICS[label].split(), 2)]
        made.append(
            {
                "text": " ".join(random.permutation(words)),
                "label": labels if separator is None else separator.join(labels),
                "id": f"{seed}-{index}",
            }
        )
    return made


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> RunResult:
    """A finished run on rows of several labels; read it only."""
    folder = tmp_path_factory.mktemp("several")
    pipeline = write_task(folder, model_folder("bert"))
    for name, count in (("train", 16), ("unlabeled", 48), ("test", 24)):
        write_rows(folder / f"{name}.jsonl", several_rows(count, count, "|" if name == "test" else None))
    more = ("teachers.steps=80", "student.steps=120", "student.thresholds={Sports: 0.4, World: 0.6}")
    return run_task(pipeline, folder / "run", "label_kind=multi", *more)


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_several_labels_are_learned(several: RunResult) -> None:
    metrics = several.metrics
    assert metrics is not None
    assert metrics["label_kind"] == "multi"
    assert metrics["untrained_ensemble"]["accuracy"] < 0.4
    for who in ("ensemble", "student"):
        assert metrics[who]["accuracy"] > 0.4 and metrics[who]["label_accuracy"] > 0.75 and metrics[who]["micro_f1"] > 0.75


def test_several_labels_at_their_thresholds(several: RunResult) -> None:
    about = read(several.student / "petkit.json")
    predictor = Predictor.load(several.folder)
    texts = [row["text"] for row in several_rows(16, 5)]

    assert (about["label_kind"], about["thresholds"]) == ("multi", [0.4, 0.5, 0.6])
    for prediction in predictor(texts):
        given = [label for label, at in zip(LABELS, (0.4, 0.5, 0.6), strict=True) if prediction.probabilities[label] >= at]
        assert list(prediction.labels) == given
        assert prediction.label == "|".join(given)


def test_the_evaluation_wrote_what_the_predictor_says(several: RunResult) -> None:
    test = several.folder.parent / "test.jsonl"
    (written,) = read_shards(several.folder / "evaluation" / "predictions", ["gold", "student", "ensemble", "probabilities"])
    texts = [row["text"] for row in several_rows(24, 24)]
    assert several.metrics is not None

    for who, teachers in (("student", False), ("ensemble", True)):
        predictor = Predictor.load(several.folder, teachers=teachers)
        assert [list(prediction.labels) for prediction in predictor(texts)] == written[who]
        found = json.loads(json.dumps(evaluate_file(predictor, str(test)).to_dict()))
        expected = several.metrics[who]
        assert found["accuracy"] == expected["accuracy"] and found["labels"] == expected["labels"]
        assert found["nll"] == pytest.approx(expected["nll"], rel=1e-4)
    assert written["gold"] == [row["label"] for row in several_rows(24, 24)]


def test_transformers_applies_the_sigmoid(several: RunResult) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(several.student), device="cpu", top_k=None)
    predictor = Predictor.load(several.student, compute=ComputeSpec(precision="float32"))
    texts = [row["text"] for row in several_rows(8, 6)]

    for found, prediction in zip(classify(texts), predictor(texts), strict=True):
        scores = {entry["label"]: entry["score"] for entry in found}
        assert scores == pytest.approx(prediction.probabilities, abs=1e-5)


def test_a_plain_folder_of_several_labels(several: RunResult, here: Path) -> None:
    """Without petkit's own file the configuration still says what it is; then the chances are even."""
    folder = Path(shutil.copytree(several.student, here / "plain"))
    (folder / "petkit.json").unlink()
    (folder / "step.json").unlink()

    decision = Predictor.load(folder).decision
    assert (decision.kind, decision.thresholds) == ("multi", (0.5,))


def test_a_scale(pipeline_file: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_task(pipeline_file, here / "run", "label_kind=ordinal", "teachers.seeds=[1]")
    metrics = result.metrics
    assert metrics is not None

    (written,) = read_shards(result.folder / "evaluation" / "predictions", ["gold", "student", "probabilities"])
    gold = np.array([LABELS.index(label) for label in written["gold"]])
    assert (metrics["label_kind"], metrics["student"]["accuracy"] > 0.5) == ("ordinal", True)
    assert metrics["student"]["mae"] == pytest.approx(np.abs([LABELS.index(label) for label in written["student"]] - gold).mean())
    assert metrics["student"]["expected_mae"] == pytest.approx(
        np.abs(written["probabilities"] @ [0, 1, 2] - gold).mean(), abs=1e-5
    )
    assert -1 <= metrics["ensemble"]["quadratic_kappa"] <= 1
    show_result(result)
    shown = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    distances = [f"{metrics['student'][figure]:.3f}" for figure in ("mae", "expected_mae")]
    assert ["student", *distances] in [list(map(str.strip, filter(None, line))) for line in shown]
    for teachers in (False, True):
        predictor = Predictor.load(result.folder, teachers=teachers)
        for prediction in predictor(["game team", "market news"]):
            places = [place * prediction.probabilities[label] for place, label in enumerate(LABELS, 1)]
            assert prediction.expected == pytest.approx(sum(places))


def test_untrained_patterns_are_reported_raw_and_calibrated(finished: Path) -> None:
    metrics = read(finished / "evaluation" / "metrics.json")

    assert list(metrics["zero_shot"]["patterns"]) == ["colon", "brackets"]
    for figures in (*metrics["zero_shot"]["patterns"].values(), metrics["zero_shot"]["ensemble"]):
        assert list(figures) == ["raw", "contextual", "batch"]
    for name, row in metrics["teachers"].items():
        pattern = metrics["zero_shot"]["patterns"][row["pattern"]]
        assert name.startswith(row["pattern"])
        assert (row["untrained_accuracy"], row["calibrated_accuracy"]) == (pattern["raw"], pattern["batch"])
    assert metrics["untrained_ensemble"]["accuracy"] == metrics["zero_shot"]["ensemble"]["raw"]


def test_it_is_reported_when_training_loses_what_the_model_knew(
    pipeline_file: Path, finished: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that knows the task (a teacher of another run) is ruined by a learning rate that is far too high."""
    heard: list[Event] = []
    few = ("teachers.seeds=[1]", "teachers.steps=3", "student.steps=2", "teachers.learning_rate=0.5")
    knows = finished / "stage_a" / "colon-1" / "model"
    (test,) = pipeline_file.parent.rglob("test.jsonl")
    (here / "many.jsonl").write_bytes(8 * test.read_bytes())  # so that the difference is beyond chance
    few = (*few, f"data.test={here / 'many.jsonl'}")

    result = run_task(pipeline_file, here / "run", f"model={knows}", *few, on_event=heard.append)

    assert result.metrics is not None
    before, after = result.metrics["zero_shot"]["ensemble"]["raw"], result.metrics["ensemble"]["accuracy"]
    assert before > after + 0.1
    reported = [event.message for event in heard if isinstance(event, Notice) and event.step == "evaluation"]
    assert reported == result.metrics["warnings"]
    (line,) = [line for line in reported if "collapsed" not in line]
    assert line.startswith("training lost some of what the model knew") and f"{before:.1%}" in line and f"{after:.1%}" in line
    assert "% of 120 test rows right" in line  # teachers are evaluated on 250 of many
    show_result(result)
    assert f"warning: {line}\n" in capsys.readouterr().out


def test_nothing_is_reported_where_nothing_was_lost(
    finished: Path, first_run: FirstRun, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = read(finished / "evaluation" / "metrics.json")
    assert metrics["ensemble"]["accuracy"] > metrics["zero_shot"]["ensemble"]["batch"]
    assert metrics["warnings"] == []

    show_result(first_run.result)
    shown = capsys.readouterr().out
    assert "warning" not in shown
    header, first, *_ = shown.splitlines()
    assert header.split() == ["accuracy", "on", "15", "test", "rows", "untrained", "calibrated", "trained"]
    row = metrics["teachers"]["colon-1"]
    figures = [f"{100 * row[key]:.1f} %" for key in ("untrained_accuracy", "calibrated_accuracy", "accuracy")]
    assert first.split("  ")[0] == "teacher colon-1"
    assert " ".join(first.split()[2:]) == " ".join(figures)


def test_without_labelled_rows_the_untrained_patterns_are_the_teachers(
    pipeline_file: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_task(pipeline_file, here / "run", "data.train=null", "student.steps=2")
    metrics = result.metrics
    assert metrics is not None

    assert list(metrics["teachers"]) == ["colon-untrained", "brackets-untrained"]
    for row in metrics["teachers"].values():
        assert row["accuracy"] == row["untrained_accuracy"] and row["trained"] is False
    assert metrics["ensemble"]["accuracy"] == metrics["zero_shot"]["ensemble"]["raw"]
    assert not [line for line in metrics["warnings"] if "lost" in line]  # nothing was trained
    show_result(result)
    teacher, ensemble = (line.rstrip() for line in capsys.readouterr().out.splitlines()[1:4:2])
    assert teacher.count("%") == ensemble.count("%") == 2  # what was not trained has no figure for it
