"""Large unlabelled sets: what there is of each row lies in scratch files, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from petkit.ensemble import LabelKind
from petkit.pretraining.adapt import adapt
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix
from petkit.storage.row_array import RowArray
from petkit.student.training import read_soft_rows
from petkit.task.task import Task
from tests.pretraining import prompt_task
from tests.shards import read_column
from tests.tiny_task import load, products, run_task

SHORT = ("teachers.steps=3", "student.steps=12", "student.feature_weight=1", "teachers.auxiliary_mlm_weight=0.1")
ROWS = "soft_labels.top_share=0.7"


def test_rows_on_disk_give_the_same_bytes(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_task(pipeline_file, here / "held", *SHORT, ROWS)
    files: set[str] = set()
    append = RowArray.append

    def watched(self: RowArray, block: np.ndarray) -> None:
        append(self, block)
        files.add("" if self.path is None else f"{self.path.parent.name}/{self.path.name}")

    monkeypatch.setattr(RowArray, "append", watched)
    monkeypatch.setattr("petkit.task.task.HELD_ROWS", 10)
    run_task(pipeline_file, here / "on disk", *SHORT, ROWS)

    assert {"soft_labels/labels.float32", "soft_labels/weights.float32", "soft_labels/kept.int64"} < files
    assert {"unlabeled-teachers/field-0.int32", "unlabeled-teachers/field-0.offsets"} < files
    assert products(here / "on disk") == products(here / "held")
    assert not (here / "on disk" / ".work").exists()


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("on_disk", [False, True])
def test_soft_rows_are_what_stage_b_wrote(finished: Path, here: Path, multi: bool, on_disk: bool) -> None:
    folder = finished / "stage_b" / "soft_labels"
    labels, row_weights, kept = read_soft_rows(
        folder, 2.0, 3, LabelKind("multi" if multi else "single"), here / "scratch" if on_disk else None
    )

    scaled, weights = read_matrix(folder, "logits") / np.float32(2), read_column(folder, "weight")
    expected = scaled if multi else scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(labels[:], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(row_weights[:], weights)
    assert kept[:].tolist() == np.flatnonzero(weights > 0).tolist()


def test_the_choice_of_rows_is_the_same_in_any_number_of_shards(
    pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shard is chosen from where it stands among all rows."""
    overrides = ("teachers.steps=3", "student.steps=1", "soft_labels={top_share: 0.5, min_probability: 0.34}")
    run_task(pipeline_file, here / "one", *overrides, stages=("a", "b"))
    monkeypatch.setattr("petkit.teachers.scoring.SHARD_ROWS", 7)
    run_task(pipeline_file, here / "five", *overrides, stages=("a", "b"))

    one, five = (read_column(here / name / "stage_b" / "soft_labels", "weight") for name in ("one", "five"))
    assert len(list((here / "five" / "stage_b" / "soft_labels").iterdir())) == 5
    assert ((one > 0) == (five > 0)).all() and 0 < (one > 0).sum() < 30


def test_scratch_is_for_large_parts_only(pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petkit.task.task.HELD_ROWS", 20)
    task = Task.checked(load(pipeline_file))
    assert task.scratch_of("unlabeled", "name") is None  # without a scratch folder
    scratch = RunStore(here / "run").scratch("tokens")
    task = replace(task, scratch=scratch)
    assert task.scratch_of("unlabeled", "name") == scratch / "name"
    assert task.scratch_of("train", "name") is None


def test_single_steps_keep_rows_on_disk_from_the_same_number_on(
    pipeline_file: Path, here: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    scratch = RunStore.scratch
    monkeypatch.setattr(RunStore, "scratch", lambda self, name: asked.append(name) or scratch(self, name))
    as_class_logits = prompt_task.write(here / "task", model_folder("bert"))

    for held, expected in ((1_000, set[str]()), (2, {"tokens", "sentences"})):
        monkeypatch.setattr("petkit.pretraining.training.HELD_ROWS", held)
        adapt(load(pipeline_file, "adapt.steps=1"), here / f"adapted {held}")
        prompt_task.make(as_class_logits, here / f"prompt {held}", "steps=1", "objective=both")
        assert set(asked) & {"tokens", "sentences"} == expected
