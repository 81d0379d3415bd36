"""What a predictor refuses to load, and what it loads all the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import petkit
from petkit import Predictor
from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import ComputeSpec
from petkit.ensemble import TeacherAgreement
from petkit.errors import IncompleteRun, InvalidInput, ModelRefused
from petkit.predict.row_io import evaluate_file, source_of
from petkit.runs.store import RunStore
from petkit.stages import pipeline as spine
from petkit.storage.parquet_shards import read_matrix
from petkit.task.task import Task
from tests.cli import project
from tests.stages.test_variants import rewrite

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
    spine.run(spine.prepare(load_pipeline(made / "pipeline.yaml", ["teachers.steps=3"]), run, stages=stages, force="stale"))


def test_teachers_newer_than_their_soft_labels_are_refused(made: Path, here: Path) -> None:
    run = Path(shutil.copytree(made / "run", here / "run"))
    before = Predictor.load(run, teachers=True).logits(TEXTS)
    redo(made, run, "a")

    with pytest.raises(IncompleteRun, match=r"run: teacher colon-1 is newer than its logits or the soft labels \(finish"):
        Predictor.load(run, teachers=True)
    assert Predictor.load(run)(TEXTS)  # the student is what it was
    redo(made, run, "b")
    assert not np.allclose(Predictor.load(run, teachers=True).logits(TEXTS), before)
    with pytest.raises(IncompleteRun, match=r"run: the classifier was made from other soft labels \(run petkit stage-c"):
        Predictor.load(run)
    redo(made, run, "c")
    assert Predictor.load(run)(TEXTS)


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


def test_a_damaged_description_of_a_classifier(made: Path, here: Path) -> None:
    folder = Path(shutil.copytree(made / "run" / "stage_c" / "model", here / "classifier"))
    (folder / "step.json").unlink()  # with it, the damage would be reported as such
    (folder / "petkit.json").write_text("{", encoding="utf-8")

    with pytest.raises(ModelRefused, match=r"^classifier/petkit\.json: not valid JSON \(take the folder from its run again\)$"):
        Predictor.load(folder)


def test_an_ensemble_without_a_key_is_damaged(made: Path, here: Path) -> None:
    step = Path(shutil.copytree(made / "run", here / "run")) / "stage_b"
    ensemble = json.loads((step / "ensemble.json").read_text())
    del ensemble["combine"]
    rewrite(step, "ensemble.json", json.dumps(ensemble))

    with pytest.raises(ModelRefused, match=r"^run/stage_b/ensemble\.json: damaged \(take the folder from its run again\)$"):
        Predictor.load(here / "run", teachers=True)


def test_the_ensemble_answers_new_rows_as_it_did_the_unlabelled_set(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrated, towards a prior and without a teacher that was left out, which need not even be there."""
    run = Path(shutil.copytree(made / "run", here / "run"))
    monkeypatch.setattr(TeacherAgreement, "collapsed", lambda pairs: {"colon-1": 1.0})
    settings = "{combine: probs, calibration: contextual, drop_collapsed: true, prior: {World: 1, Sports: 3}}"
    pipeline = load_pipeline(made / "pipeline.yaml", [f"soft_labels={settings}"])
    spine.run(spine.prepare(pipeline, run, stages=("b",), force="b"))
    shutil.rmtree(run / "stage_a" / "colon-1")

    predictor = Predictor.load(run, teachers=True, compute=FLOAT32)
    rows = [example.fields for example in Task.checked(load_pipeline(made / "pipeline.yaml")).rows("unlabeled")]
    expected = read_matrix(run / "stage_b" / "soft_labels", "logits")
    np.testing.assert_allclose(predictor.logits(rows), expected, atol=1e-5)
    assert mean_shares(predictor, rows) == pytest.approx((0.25, 0.75), abs=2e-4)


def mean_shares(predictor: Predictor, rows: list[dict[str, str]]) -> tuple[float, ...]:
    """Return the mean probability of every label."""
    return tuple(np.mean([list(found.probabilities.values()) for found in predictor(rows)], axis=0))


@pytest.mark.parametrize(
    ("data", "key"),
    [({"columns": ["text"]}, "columns"), ({"label_names": 5}, "label_names"), ({"empty": "keep"}, "empty"), (7, "")],
)
@pytest.mark.parametrize("teachers", [False, True])
def test_a_manifest_whose_values_are_of_other_kinds(teachers: bool, data: object, key: str, made: Path, here: Path) -> None:
    run = Path(shutil.copytree(made / "run", here / "run"))
    store = RunStore(run)
    store.write_manifest({**store.manifest(), "data": data})

    with pytest.raises(IncompleteRun, match=rf"^run: manifest\.json.*{key}"):
        Predictor.load(run, teachers=teachers)


def test_rows_without_text_are_evaluated_as_the_run_did(made: Path, here: Path) -> None:
    """The test rows of a run with ``data.empty: skip`` were refused by ``petkit evaluate``; ``predict`` labels no such row."""
    test = here / "test.jsonl"
    test.write_text((made / "test.jsonl").read_text() + '{"text": " ", "label": "World"}\n')
    settings = ["data.empty=skip", f"data.test={test}"]
    run = petkit.run(made / "pipeline.yaml", here / "run", overrides=settings).folder
    measured = json.loads((run / "evaluation" / "metrics.json").read_text())["student"]
    notes: list[str] = []

    for folder in (run, run / "stage_c" / "model"):
        predictor = Predictor.load(folder)
        assert evaluate_file(predictor, str(test), notes.append).to_dict()["confusion"] == measured["confusion"]
        assert [row.id for row in source_of(str(test), predictor, labelled=False)] == [f"row-{n}" for n in range(1, 5)]
    assert {"1 of 4 rows have no text and are left out" in note for note in notes} == {True}
    with pytest.raises(InvalidInput, match=r"^test\.jsonl:4: text: empty \(remove the row or fill it in\)$"):
        evaluate_file(Predictor.load(made / "run"), str(test))
