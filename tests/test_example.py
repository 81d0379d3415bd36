"""The example from end to end on the embedded model, with few steps."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import petkit
from petkit.cli import main
from petkit.events import Event, StepSkipped, StepStarted
from tests.benchmark import benchmark
from tests.test_doctests import TRAINED, run_examples

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = Path("examples/support-tickets/pipeline.yaml")
LABELS = {"delivery", "returns", "payment", "account", "product"}
SETTINGS = ("teachers.steps=10", "student.steps=30")  # those of the docstring
OPERATIONS = 6.60e12  # of the run and the predictions that the docstrings show
COUNTED: list[int] = []
TEXTS = (
    "Where is my parcel?",
    "i want my money back, the zip broke after one day",
    "you charged my card twice",
    "I can't log in any more",
    "does the jacket come in green?",
)


@pytest.fixture(scope="module", autouse=True)
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the run that the docstrings of ``petkit`` make, in a copy of the examples."""
    here = tmp_path_factory.mktemp("example")
    shutil.copytree(ROOT / "examples", here / "examples")
    with (here / PIPELINE).open("a", encoding="utf-8") as pipeline:
        pipeline.write("compute: {precision: float32}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        with benchmark("operations").counter() as counting:
            for name in TRAINED:
                assert run_examples(f"petkit.{name}", getattr(petkit, name))
        COUNTED.append(counting.get_total_flops())
        yield Path("runs/support-tickets")


def test_it_finishes_and_learns_something(run_folder: Path) -> None:
    metrics = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    assert metrics["rows"] == 150
    assert set(metrics["student"]["labels"]) == LABELS
    assert metrics["ensemble"]["accuracy"] > 0.4  # chance is 0.2; so few steps teach the student little
    assert {path.suffix for path in run_folder.rglob("*") if path.is_file()} <= {
        ".json", ".jsonl", ".yaml", ".parquet", ".safetensors", ".txt", "",
    }  # fmt: skip


def test_it_computes_no_more_than_it_did() -> None:
    """The operations do not depend on the machine; more of them need a reason, and fewer a new number here."""
    assert 0.9 * OPERATIONS < COUNTED[0] < 1.1 * OPERATIONS


def test_a_second_run_does_nothing() -> None:
    heard: list[Event] = []

    again = petkit.run(PIPELINE, overrides=SETTINGS, on_event=heard.append)

    assert again.ran == () and again.metrics is not None
    assert len([event for event in heard if isinstance(event, StepSkipped)]) == 12
    assert not any(isinstance(event, StepStarted) for event in heard)


def test_transformers_and_petkit_agree(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import pipeline

    monkeypatch.setattr(sys, "argv", ["petkit", "predict", str(run_folder), *TEXTS])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0
    predicted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    classify = pipeline("text-classification", str(run_folder / "stage_c" / "model"), device="cpu")
    scored = classify(list(TEXTS), top_k=None)

    for row, scores in zip(predicted, scored, strict=True):
        assert row["probabilities"] == pytest.approx({score["label"]: score["score"] for score in scores}, abs=1e-4)
        assert row["label"] == scores[0]["label"]
