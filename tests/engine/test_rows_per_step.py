"""The size of a training's batches is the one that is recorded, in particular where the setting is not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from petkit.engine.sampling import drawn_batches, rows_per_step, smaller_batches
from petkit.events import Event, StepFinished
from tests.tiny_task import run_task


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), steps=st.integers(1, 5))
def test_every_batch_has_as_many_rows_as_is_said(count: int, batch_size: int, steps: int) -> None:
    batches = list(drawn_batches(count, lambda rows: np.ones(len(rows), np.int64), batch_size, steps, 1))
    used = rows_per_step(count, batch_size)
    assert {len(batch) for batch in batches} == {used} and used <= max(1, min(batch_size, count - 1))
    assert smaller_batches(rows=(count, batch_size)) == ({} if used == batch_size else {"rows": used})


def facts(folder: Path, step: str) -> dict[str, Any]:
    """Return the batch sizes that a step records."""
    recorded = json.loads((folder / step / "step.json").read_text())["facts"]
    return {name: value for name, value in recorded.items() if name.endswith("batch_size")}


def test_steps_record_the_size_that_is_used(pipeline_file: Path, copy: Path, here: Path) -> None:
    assert facts(copy, "stage_a/colon-1/model") == {} == facts(copy, "stage_c/model")
    student = ("student.steps=2", "student.batch_size=30", "student.gold_batch_size=9")
    run_task(pipeline_file, copy, *student, stages=("c",), force="stale")
    assert facts(copy, "stage_c/model") == {"batch_size": 15, "gold_batch_size": 5}  # of 30 and 9 rows
    teacher = ("teachers.steps=1", "teachers.seeds=[1]", "patterns=[{id: colon, text: '{mask} news: {text}'}]")
    every = ("teachers.batch_size=16", "teachers.auxiliary_mlm_weight=0.1", "teachers.unlabeled_batch_size=31")
    folds = ("soft_labels.weighting=out_of_fold", "soft_labels.folds=3")
    finished: dict[str, Any] = {}

    def hear(event: Event) -> None:
        if isinstance(event, StepFinished):
            finished[event.step] = {name: size for name, size in event.facts.items() if name.endswith("batch_size")}

    run_task(pipeline_file, here / "new", *teacher, *every, *folds, stages=("a",), on_event=hear)
    sizes = {"model": {"batch_size": 5, "unlabeled_batch_size": 15}, "folds": {"batch_size": 3, "unlabeled_batch_size": 15}}
    for step, used in sizes.items():
        assert facts(here / "new", f"stage_a/colon-1/{step}") == finished[f"stage_a/colon-1/{step}"] == used
