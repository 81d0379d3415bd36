"""What a predictor refuses to load, and what it loads all the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import petkit
from petkit import Predictor
from petkit.errors import IncompleteRun
from petkit.spec.loader import load_pipeline
from petkit.spec.schema import ComputeSpec
from petkit.stages import pipeline as spine
from tests.cli import project

TEXTS = ("the world is bad", "a great game")
FLOAT32 = ComputeSpec(precision="float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """The tiny project with its finished run: read it only."""
    folder = tmp_path_factory.mktemp("made")
    petkit.run(project.write(folder, model_folder("bert")), folder / "run")
    return folder


def redo(made: Path, run: Path, *stages: spine.Stage) -> None:
    """Do stages of a run again with teachers that train longer."""
    spine.run(load_pipeline(made / "pipeline.yaml", ["teachers.steps=3"]), run, stages=stages, force="stale")


def test_teachers_newer_than_their_soft_labels_are_refused(made: Path, here: Path) -> None:
    run = Path(shutil.copytree(made / "run", here / "run"))
    before = Predictor.load(run, teachers=True).logits(TEXTS)
    redo(made, run, "a")

    with pytest.raises(IncompleteRun, match=r"run: teacher colon-1 is newer than its logits or the soft labels \(finish"):
        Predictor.load(run, teachers=True)
    assert Predictor.load(run)(TEXTS)  # the student is what it was
    redo(made, run, "b")
    assert not np.allclose(Predictor.load(run, teachers=True).logits(TEXTS), before)


def test_one_teacher_newer_than_its_logits_is_refused(made: Path, here: Path) -> None:
    run, other = (Path(shutil.copytree(made / "run", here / name)) for name in ("run", "other"))
    redo(made, other, "a")
    shutil.rmtree(run / "stage_a" / "brackets-1" / "model")
    shutil.copytree(other / "stage_a" / "brackets-1" / "model", run / "stage_a" / "brackets-1" / "model")

    with pytest.raises(IncompleteRun, match="run: teacher brackets-1 is newer"):
        Predictor.load(run, teachers=True)


@pytest.mark.parametrize("content", ['{"files": []}', "[1]", "not JSON"])
def test_a_classifier_beside_a_manifest_of_another_tool(content: str, made: Path, here: Path) -> None:
    student = made / "run" / "stage_c" / "model"
    folder = Path(shutil.copytree(student, here / "classifier"))
    (folder / "manifest.json").write_text(content, encoding="utf-8")

    found = Predictor.load(folder, compute=FLOAT32).logits(TEXTS)

    assert np.array_equal(found, Predictor.load(student, compute=FLOAT32).logits(TEXTS))
