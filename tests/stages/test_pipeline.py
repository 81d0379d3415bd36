"""The spine from end to end: what runs, what is skipped, what is refused, and what lies in the run folder afterwards."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from petkit.errors import IncompleteRun
from petkit.events import Event, Progress, StepFinished, StepSkipped, StepStarted
from petkit.storage.parquet_shards import read_matrix, read_shards
from petkit.teachers import scoring
from tests.tiny_run import FirstRun
from tests.tiny_task import STEPS, load, planned, products, rows, run_task, student_weights

Folder = Callable[[str], Path]
TEACHERS = tuple(step for step in STEPS if step.startswith("stage_a"))
ONE_TEACHER = ("teachers.seeds=[1]", "patterns=[{id: colon, text: '{mask} news: {text}'}]")
AFTER_TEACHERS = ("stage_b", "stage_c/model", "evaluation")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# -- one whole run -----------------------------------------------------------------------------------


def test_full_run_makes_every_step_in_order_and_tells_it(first_run: FirstRun) -> None:
    result, heard = first_run.result, first_run.heard
    assert result.ran == STEPS and result.student == result.folder / "stage_c" / "model"
    assert [event.step for event in heard if isinstance(event, StepStarted)] == list(STEPS)
    assert {event.why for event in heard if isinstance(event, StepStarted)} == {"not done yet"}
    for step in STEPS:
        last = [event for event in heard if isinstance(event, Progress) and event.step == step][-1]
        assert last.done == last.total, step
    facts = {event.step: event.facts for event in heard if isinstance(event, StepFinished)}
    assert facts["stage_b"]["rows"] == 30
    assert facts["stage_a/colon-1/model"]["last_loss"] < facts["stage_a/colon-1/model"]["first_loss"]  # type: ignore[operator]


def test_what_is_reported_is_kept_but_for_progress(first_run: FirstRun) -> None:
    reported = [json.loads(line) for line in (first_run.result.folder / "events.jsonl").read_text().splitlines()]
    heard = [type(event).__name__ for event in first_run.heard if not isinstance(event, Progress)]
    assert [entry["event"] for entry in reported] == heard
    assert Counter(heard) - Counter(["Notice"] * 9) == {"RunStarted": 1, "StepStarted": 11, "StepFinished": 11}


def test_the_task_is_learnt(first_run: FirstRun) -> None:
    """Chance is one in three."""
    metrics = first_run.result.metrics
    assert metrics is not None
    assert metrics["untrained_ensemble"]["accuracy"] < 0.5
    assert metrics["ensemble"]["accuracy"] > 0.7 and metrics["student"]["accuracy"] > 0.7


def test_run_folder_is_complete(pipeline_file: Path, finished: Path) -> None:
    assert not (finished / ".work").exists()
    for step in STEPS:
        assert read_json(finished / step / "step.json")["step"] == step
    manifest = read_json(finished / "manifest.json")
    assert manifest["task"] == "topics" and manifest["labels"] == ["Sports", "Science", "World"]
    assert manifest["arithmetic"] == {"device": "cpu", "precision": "float32", "threads": 1}
    resolved = yaml.safe_load((finished / "config.resolved.yaml").read_text())
    assert resolved["teachers"]["weight_decay"] == 0.01 and resolved["student"]["steps"] == 40
    assert load(finished / "config.resolved.yaml").spec == load(pipeline_file).spec


def test_teachers_of_a_pattern_differ_by_seed_alone(finished: Path) -> None:
    found = products(finished, "stage_a")
    weights = [found[f"stage_a/{name}/model/model.safetensors"] for name in ("colon-1", "colon-2", "brackets-1", "brackets-2")]
    assert len(set(weights)) == 4
    assert found["stage_a/colon-1/model/config.json"] == found["stage_a/brackets-2/model/config.json"]
    one, two = (read_json(finished / f"stage_a/colon-{seed}/model/teacher.json") for seed in (1, 2))
    assert {name for name in one if one[name] != two[name]} <= {"seed", "trained_accuracy"}


def test_evaluation_counts_every_row_of_every_model(finished: Path) -> None:
    metrics = read_json(finished / "evaluation" / "metrics.json")
    assert metrics["rows"] == 15 and set(metrics["teachers"]) == {"colon-1", "colon-2", "brackets-1", "brackets-2"}
    for entry in (metrics["student"], metrics["ensemble"]):
        assert sum(map(sum, entry["confusion"])) == 15 and 0 <= entry["accuracy"] <= 1
        assert entry["accuracy_interval"][0] <= entry["accuracy"] <= entry["accuracy_interval"][1]
    table = pq.read_table(finished / "evaluation" / "predictions").to_pydict()
    assert table["id"] == [f"15-{index}" for index in range(15)]
    assert table["gold"] == [row["label"] for row in rows(15, 15)]
    right = sum(gold == student for gold, student in zip(table["gold"], table["student"], strict=True))
    assert right / 15 == pytest.approx(metrics["student"]["accuracy"])
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in table["probabilities"])


def test_stage_by_stage_equals_all_at_once(pipeline_file: Path, finished: Path, here: Path) -> None:
    for stage, ran in (("a", TEACHERS), ("b", ("stage_b",)), ("c", ("stage_c/model",)), ("evaluation", ("evaluation",))):
        assert run_task(pipeline_file, here / "run", stages=(stage,)).ran == ran
    assert products(here / "run") == products(finished)


def test_without_a_test_set_there_is_no_evaluation(pipeline_file: Path, here: Path) -> None:
    result = run_task(pipeline_file, here / "run", "data.test=null", *ONE_TEACHER)
    assert result.metrics is None and result.ran[-1] == "stage_c/model" and result.student.is_dir()


@pytest.mark.parametrize("shard_rows", [7, 8192])
def test_how_the_work_is_cut_up_changes_rounding_only(
    shard_rows: int, pipeline_file: Path, finished: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SHARD_ROWS", shard_rows)
    run_task(pipeline_file, here / "run", "compute.tokens_per_batch=40", *ONE_TEACHER, stages=("a", "b"))
    assert len(list((here / "run" / "stage_b" / "soft_labels").iterdir())) == (5 if shard_rows == 7 else 1)
    cut, whole = (read_matrix(folder / "stage_a" / "colon-1" / "logits", "logits") for folder in (here / "run", finished))
    np.testing.assert_allclose(cut, whole, atol=1e-5)
    ids = [shard["id"] for shard in read_shards(here / "run" / "stage_b" / "soft_labels", ["id"])]
    assert [name for shard in ids for name in shard] == [f"30-{index}" for index in range(30)]


# -- a second run ------------------------------------------------------------------------------------


def test_second_run_does_no_work(pipeline_file: Path, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for top in ("stage_a", "stage_b", "stage_c") for path in (copy / top).rglob("*")}
    heard: list[Event] = []
    result = run_task(pipeline_file, copy, on_event=heard.append)
    assert result.ran == () and result.metrics == read_json(copy / "evaluation" / "metrics.json")
    assert [event.step for event in heard if isinstance(event, StepSkipped)] == list(STEPS)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("missing", ["stage_a/colon-2/logits", "stage_a/brackets-1/model"])
def test_missing_teacher_is_an_error_never_a_smaller_ensemble(missing: str, pipeline_file: Path, copy: Path) -> None:
    shutil.rmtree(copy / missing)
    overrides = ("soft_labels.weighting=train_accuracy",)
    with pytest.raises(IncompleteRun, match=rf"run: stage_b needs {missing}, which is not finished \(run petkit stage-a first\)"):
        run_task(pipeline_file, copy, *overrides, stages=("b",), force="b")


@pytest.mark.parametrize(
    ("stage", "need"), [("b", "stage_a/colon-1/logits"), ("c", "stage_b"), ("evaluation", "stage_a/colon-1/model")]
)
def test_a_stage_before_its_time(stage: Any, need: str, pipeline_file: Path, here: Path) -> None:
    with pytest.raises(IncompleteRun, match=f"needs {need}, which is not finished"):
        run_task(pipeline_file, here / "run", stages=(stage,))


@pytest.mark.parametrize("step", ["stage_a/colon-1/logits", "stage_b", "stage_c/model", "evaluation"])
def test_truncated_step_is_made_again_and_nothing_else(step: str, pipeline_file: Path, finished: Path, copy: Path) -> None:
    files = [path for path in (copy / step).rglob("*") if path.is_file() and path.name != "step.json"]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert planned(pipeline_file, copy)[step].why.startswith(f"{largest.relative_to(copy / step)} has ")
    assert run_task(pipeline_file, copy).ran == (step,)
    assert products(copy) == products(finished)


def test_flipped_byte_in_a_teacher_is_never_read(pipeline_file: Path, copy: Path) -> None:
    path = copy / "stage_a" / "colon-1" / "logits" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IncompleteRun, match=r"stage_a/colon-1/logits is damaged: part-00000\.parquet has changed"):
        run_task(pipeline_file, copy, stages=("b",), force="b")


def test_moved_run_needs_no_work(pipeline_file: Path, copy: Path) -> None:
    moved = copy.rename(copy.parent / "moved")
    assert run_task(pipeline_file, moved).ran == ()


def test_student_of_somebody_elses_soft_labels(pipeline_file: Path, finished: Path, here: Path) -> None:
    """Stage C reads nothing of the teachers."""
    (here / "run").mkdir()
    shutil.copy(finished / "manifest.json", here / "run")
    shutil.copytree(finished / "stage_b", here / "run" / "stage_b")
    assert run_task(pipeline_file, here / "run", stages=("c",)).ran == ("stage_c/model",)
    assert student_weights(here / "run") == student_weights(finished)


def test_what_is_missing_is_reported_before_what_it_makes_stale(pipeline_file: Path, copy: Path) -> None:
    shutil.rmtree(copy / "stage_b")

    with pytest.raises(IncompleteRun, match=r"stage_c/model needs stage_b, which is not finished \(run petkit stage-b first\)"):
        run_task(pipeline_file, copy, stages=("c",))
