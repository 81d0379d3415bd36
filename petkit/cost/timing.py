"""How fast a pipeline's models are here: a few timed steps on real rows, some seconds in all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from petkit.config.schema import StudentSpec, TeachersSpec
from petkit.cost.disk_and_memory import Sample
from petkit.engine.device import Device
from petkit.engine.inference import label_logits
from petkit.engine.sampling import training_batches
from petkit.engine.training_loop import TrainingDiverged, fit
from petkit.losses import cross_entropy
from petkit.models.batch import IndexArray, collate
from petkit.prompts.pattern import Encoded
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.student.model import new_student
from petkit.task.checks import KEPT_ROWS
from petkit.task.task import Task
from petkit.teachers.models import TeacherModels

# Each of the three measurements ends with the step that takes it beyond this; training takes three steps, if they are short.
_SECONDS, _MOST_STEPS, _FEWEST_STEPS = 1.0, 8, 3
_PATIENCE = 5.0
_WARMING_UP = 8  # rows


@dataclass(frozen=True)
class Speed:
    """Seconds, each as measured here and now.

    Attributes:
        loading: of the teachers' model.
        reading: a row of the unlabelled set, and tokenising it.
        scoring: a row by a teacher.
        teacher_step: a training step of a teacher with the plain loss.
        student_step: one of the student.
    """

    loading: float
    reading: float
    scoring: float
    teacher_step: float
    student_step: float


def time_models(task: Task, device: Device, models: TeacherModels, sample: Sample) -> Speed:
    """Time what the stages will do most of. Nothing is written, and torch's random state stays as it is.

    Raises:
        ModelRefused: a model cannot be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        loading, scoring, teacher_step = _time_teacher(task, device, models, sample)
        models.release()
        student_step = _time_student(task, device, sample)
    return Speed(loading, _time_reading(task), scoring, teacher_step, student_step)


def _time_reading(task: Task) -> float:
    started = time.perf_counter()
    rows = (example for example, _ in zip(task.source("unlabeled"), range(KEPT_ROWS), strict=False))
    keys = tuple(dict.fromkeys(key for pvp in task.pvps for key in pvp.pattern.keys))
    store = TokenStore.build(rows, task.tokenizer, keys, task.max_length, task.spec.truncate)
    return (time.perf_counter() - started) / store.rows


def _time_teacher(task: Task, device: Device, models: TeacherModels, sample: Sample) -> tuple[float, float, float]:
    """Return the seconds of loading the model, of scoring a row and of a training step."""
    pvp, rows = task.pvps[0], sample.teacher_rows
    started = time.perf_counter()
    with models.untrained(pvp) as scorer:
        loading = time.perf_counter() - started

        def score(some: Sequence[Encoded]) -> None:
            label_logits(scorer, some, task.tokenizer, device, task.spec.compute.tokens_per_batch)

        score(rows[:_WARMING_UP])
        scoring = _seconds_per_row(score, rows)
    settings = task.spec.teachers
    with models.new(pvp) as scorer:
        step = _time_training(scorer, rows, settings, settings.batch_size, len(task.labels), task.tokenizer, device)
    return loading, scoring, step


def _seconds_per_row(score: Callable[[Sequence[Encoded]], None], rows: Sequence[Encoded]) -> float:
    started, done, portion = time.perf_counter(), 0, _WARMING_UP
    while True:
        some = [rows[(done + index) % len(rows)] for index in range(portion)]
        score(some)
        done, spent = done + portion, time.perf_counter() - started
        if spent > _SECONDS or done >= 4 * KEPT_ROWS:
            return spent / done
        portion = min(2 * portion, KEPT_ROWS)


def _time_student(task: Task, device: Device, sample: Sample) -> float:
    """Return the seconds of a training step."""
    settings = task.spec.student
    student = new_student(
        task.spec.student_model,
        task.labels,
        settings.adapted,
        device.training_attention,
        multi=task.spec.label_kind == "multi",
        four_bit=device.four_bit(settings.adapted),
        start_sha256=task.start_hash("student"),
    ).to(device.name)
    rows_per_step = settings.batch_size + (settings.gold_batch_size if task.hard_weight else 0)
    rows, tokenizer = sample.student_rows, task.student_tokenizer
    return _time_training(student, rows, settings, rows_per_step, len(task.labels), tokenizer, device)


def _time_training(
    model: nn.Module,
    rows: Sequence[Encoded],
    settings: TeachersSpec | StudentSpec,
    batch_size: int,
    labels: int,
    tokenizer: PieceTokenizer,
    device: Device,
) -> float:
    """Return the median seconds of a training step under the plain loss; the first warms up, and counts only if it stays alone."""
    rows = [rows[index % len(rows)] for index in range(max(len(rows), 2 * batch_size))]
    lengths = [len(row.ids) for row in rows]
    ends = [time.perf_counter()]

    def drawn() -> Iterator[IndexArray]:
        for done, batch in enumerate(training_batches(lengths, batch_size, _MOST_STEPS, 1)):
            if time.perf_counter() - ends[0] > (_SECONDS if done >= _FEWEST_STEPS else _PATIENCE):
                return
            yield batch

    def loss_of(prepared: Any, batch: IndexArray) -> Tensor:
        inputs = collate([rows[index] for index in batch], tokenizer).to(device.name)
        logits = prepared(inputs)
        return cross_entropy(logits, torch.arange(len(batch), device=logits.device) % labels)

    try:
        fit(model, drawn(), loss_of, settings.in_training, device, lambda step, loss: ends.append(time.perf_counter()))
    except TrainingDiverged:
        ends.append(time.perf_counter())  # the run will report it; here only its time counts
    steps = np.diff(ends)
    return float(np.median(steps[1:]) if len(steps) > 1 else steps[0])
