"""The evaluation of a run: how much it keeps in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petkit.stages import evaluation
from petkit.teachers import models
from tests.tiny_task import run_task

ONE_TEACHER = ("teachers.seeds=[1]", "patterns=[{id: colon, text: '{mask} news: {text}'}]")


@pytest.mark.parametrize("how", ["trained", "untrained", "adapted"])
def test_evaluation_keeps_one_model_in_memory(how: str, pipeline_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"trained": (), "untrained": ("data.train=null",), "adapted": ("teachers.adapter=lora",)}[how]
    overrides = (*ONE_TEACHER, "teachers.steps=2", "student.steps=2", *more)
    run_task(pipeline_file, here / "run", *overrides, stages=("a", "b", "c"))
    loaded: list[weakref.ref[Any]] = []
    in_memory: list[int] = []

    def counted(load: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            gc.collect()
            alive = [model for reference in loaded if (model := reference()) is not None]
            in_memory.append(sum(not parameter.is_meta for model in alive for parameter in model.parameters()))
            model = load(*args, **options)
            loaded.append(weakref.ref(model))
            return model

        return counting

    monkeypatch.setattr(models, "load_language_model", counted(models.load_language_model))
    monkeypatch.setattr(evaluation, "load_student", counted(evaluation.load_student))
    run_task(pipeline_file, here / "run", *overrides, stages=("evaluation",))
    # When the backbone is loaded, the teacher if it has a model of its own, and the student.
    assert in_memory == [0] * (3 if how == "trained" else 2)
