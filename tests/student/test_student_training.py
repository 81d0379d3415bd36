"""Which rows the student sees, where its randomness comes from, and whose features it is drawn to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from petkit.engine.device import Device
from petkit.engine.sampling import StepRows
from petkit.errors import InvalidInput
from petkit.models.batch import IndexArray, collate
from petkit.models.loading import load_masked_lm
from petkit.stages import c_student
from petkit.storage.parquet_shards import read_matrix
from petkit.student import training as student_training
from petkit.student.objective import StudentObjective, StudentTargets
from petkit.task.task import Task
from petkit.teachers.models import teacher_models
from tests.shards import read_column
from tests.tiny import save_tiny_model, tiny_tokenizer
from tests.tiny_task import load, run_task, student_weights, write_task

DEVICE = Device("cpu", "float32", 1)
SHORT = "student.steps=12"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[StepRows]:
    """Every step that a student takes."""
    seen: list[StepRows] = []

    class Watched(StudentObjective):
        def __call__(self, student: Any, step: StepRows) -> Tensor:
            seen.append(step)
            return super().__call__(student, step)

    monkeypatch.setattr(student_training, "StudentObjective", Watched)
    return seen


def test_the_targets_are_what_stage_b_wrote(pipeline_file: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found_targets: list[StudentTargets] = []
    monkeypatch.setattr(
        student_training, "StudentTargets", lambda *given: found_targets.append(StudentTargets(*given)) or found_targets[-1]
    )
    run_task(pipeline_file, copy, SHORT, "student.temperature=3", stages=("c",), force="stale")
    (targets,) = found_targets
    logits = read_matrix(copy / "stage_b" / "soft_labels", "logits")
    probabilities = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)  # at the temperature of the soft labels
    np.testing.assert_allclose(np.exp(targets.soft_labels[:]), probabilities, rtol=1e-5)
    np.testing.assert_array_equal(targets.row_weights[:], read_column(copy / "stage_b" / "soft_labels", "weight"))
    assert (targets.temperature, targets.hard_weight, targets.gold.tolist()) == (3, 0.2, [0, 1, 2] * 3)


def test_rows_that_do_not_count_are_never_drawn(pipeline_file: Path, copy: Path, steps: list[StepRows]) -> None:
    run_task(pipeline_file, copy, SHORT, "soft_labels.top_share=0.4", stages=("b", "c"), force="stale")
    weights = read_column(copy / "stage_b" / "soft_labels", "weight")
    drawn = {row for step in steps for row in step.rows.tolist()}
    assert (weights == 0).sum() > 10 and drawn == set(np.flatnonzero(weights).tolist())  # and all others are
    assert {len(step.rows) for step in steps} <= {6, -(-int((weights > 0).sum()) // 2)}
    assert {row for step in steps for row in step.added.tolist()} == set(range(9)) and len(steps) == 12


@pytest.mark.parametrize("overrides", [("student.hard_weight=0",), ("data.train=null", "teachers.steps=1")])
def test_no_gold_row_is_drawn_without_a_gold_loss(overrides: Any, pipeline_file: Path, copy: Path, steps: list[StepRows]) -> None:
    run_task(pipeline_file, copy, SHORT, *overrides, stages=("a", "b", "c"), force="stale")
    assert len(steps) == 12 and all(step.added is None for step in steps)


def test_a_step_draws_from_the_seed_and_its_number_alone(
    pipeline_file: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wasteful(StudentObjective):
        def __call__(self, student: Any, step: StepRows) -> Tensor:
            loss = super().__call__(student, step)
            torch.rand(5)
            step.random.random(5)
            return loss

    overrides = ("student.steps=3", "student.dropout=0.2", "student.r_drop_weight=1", "student.consistency_weight=1")
    run_task(pipeline_file, copy, *overrides, stages=("c",), force="c")
    plain = student_weights(copy)
    monkeypatch.setattr(student_training, "StudentObjective", Wasteful)
    run_task(pipeline_file, copy, *overrides, stages=("c",), force="c")
    assert student_weights(copy) == plain


def test_features_are_those_of_the_first_teacher_at_the_mask(
    pipeline_file: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[IndexArray, Tensor]] = []

    class Watched(StudentObjective):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            answer = self.teacher_features
            assert answer is not None
            self.teacher_features = lambda rows: asked.append((rows, answer(rows))) or asked[-1][1]

    monkeypatch.setattr(student_training, "StudentObjective", Watched)
    before = (copy / "stage_a" / "colon-1" / "model" / "model.safetensors").read_bytes()
    run_task(pipeline_file, copy, SHORT, "student.feature_weight=1", stages=("c",), force="stale")
    model, task = load_masked_lm(str(copy / "stage_a" / "colon-1" / "model")), Task.checked(load(pipeline_file))
    for rows, found in asked[:3]:
        batch = collate([task.pvps[0].encode(task.tokens("unlabeled").row(int(row))) for row in rows], task.tokenizer)
        hidden = model.base_model(**batch.model_inputs).last_hidden_state[torch.arange(len(rows)), batch.mask_positions]
        torch.testing.assert_close(found, hidden, rtol=1e-4, atol=1e-5)
        assert not found.requires_grad
    assert (copy / "stage_a" / "colon-1" / "model" / "model.safetensors").read_bytes() == before
    saved = set(load_state(copy / "stage_c" / "model"))
    assert not any("projection" in name for name in saved)  # it was for training only


def load_state(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_features_make_the_student_depend_on_that_teacher(pipeline_file: Path, copy: Path) -> None:
    def needs(*overrides: str) -> tuple[str, ...]:
        return c_student.steps(Task.checked(load(pipeline_file, *overrides)), DEVICE, teacher_models("embedded", None, DEVICE))[
            0
        ].needs

    assert needs() == ("stage_b",)
    assert needs("student.feature_weight=1") == ("stage_b", "stage_a/colon-1/model")
    assert needs("student.feature_weight=1", "data.train=null") == ("stage_b",)  # the backbone itself
    shutil.rmtree(copy / "stage_a" / "brackets-1" / "model")  # nobody asks for the others
    assert run_task(pipeline_file, copy, SHORT, "student.feature_weight=1", stages=("c",), force="stale").ran == (
        "stage_c/model",
    )


def test_features_of_an_untrained_teacher_with_soft_tokens(pipeline_file: Path, here: Path) -> None:
    overrides = ("data.train=null", "student.steps=2", "student.feature_weight=1")
    run_task(
        pipeline_file, here / "run", *overrides, "patterns=[{id: a, text: '{soft:2} {mask} {text}'}]", stages=("a", "b", "c")
    )
    facts = json.loads((here / "run" / "stage_c" / "model" / "step.json").read_text())["facts"]
    assert np.isfinite(facts["last_loss"])


def test_a_student_without_a_mask_cannot_hide_words(here: Path, model_folder: Callable[[str], Path]) -> None:
    import copy as copying

    tokenizer = copying.deepcopy(tiny_tokenizer("wordpiece"))
    student = save_tiny_model("bert", tokenizer, here / "student")
    settings = json.loads((student / "tokenizer_config.json").read_text())
    (student / "tokenizer_config.json").write_text(json.dumps({**settings, "mask_token": None}))
    pipeline_file = write_task(here / "task", model_folder("bert"))
    Task.checked(load(pipeline_file, f"student.model={student}"))
    with pytest.raises(InvalidInput, match=r"student.consistency_weight: hides tokens behind a mask, and .* has none"):
        Task.checked(load(pipeline_file, f"student.model={student}", "student.consistency_weight=1"))
