"""The example from end to end on the embedded model, with few steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import petkit
from petkit.cli import main
from petkit.events import Event, StepSkipped, StepStarted

pytestmark = pytest.mark.slow

PIPELINE = Path(__file__).resolve().parents[1] / "examples" / "support-tickets" / "pipeline.yaml"
LABELS = {"delivery", "returns", "payment", "account", "product"}
SETTINGS = ("teachers.steps=10", "student.steps=30", "compute.precision=float32")
TEXTS = (
    "Where is my parcel?",
    "i want my money back, the zip broke after one day",
    "you charged my card twice",
    "I can't log in any more",
    "does the jacket come in green?",
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> petkit.RunResult:
    return petkit.run(PIPELINE, tmp_path_factory.mktemp("example") / "run", overrides=SETTINGS)


def test_it_finishes_and_learns_something(result: petkit.RunResult) -> None:
    assert result.metrics is not None
    assert (len(result.ran), result.metrics["rows"]) == (12, 150)
    assert set(result.metrics["student"]["labels"]) == LABELS
    assert result.metrics["ensemble"]["accuracy"] > 0.4  # chance is 0.2; so few steps teach the student little
    assert {path.suffix for path in result.folder.rglob("*") if path.is_file()} <= {
        ".json", ".jsonl", ".yaml", ".parquet", ".safetensors", ".txt", "",
    }  # fmt: skip


def test_a_second_run_does_nothing(result: petkit.RunResult) -> None:
    heard: list[Event] = []

    again = petkit.run(PIPELINE, result.folder, overrides=SETTINGS, on_event=heard.append)

    assert again.ran == ()
    assert again.metrics == result.metrics
    assert [event.step for event in heard if isinstance(event, StepSkipped)] == list(result.ran)
    assert not any(isinstance(event, StepStarted) for event in heard)


def test_transformers_and_petkit_agree(
    result: petkit.RunResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import pipeline

    monkeypatch.setattr(sys, "argv", ["petkit", "predict", str(result.folder), *TEXTS])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0
    predicted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    classify = pipeline("text-classification", str(result.student), device="cpu")
    scored = classify(list(TEXTS), top_k=None)

    for row, scores in zip(predicted, scored, strict=True):
        assert row["probabilities"] == pytest.approx({score["label"]: score["score"] for score in scores}, abs=1e-4)
        assert row["label"] == scores[0]["label"]
