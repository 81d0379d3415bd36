"""The costs of one step: bytes by formulas, seconds from a short measurement of the models on real rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from petkit.config.schema.training import StudentSpec, TeachersSpec
from petkit.engine.device import Device
from petkit.engine.inference import label_logits
from petkit.engine.sampling import training_batches
from petkit.engine.training_loop import TrainingDiverged, fit
from petkit.losses import cross_entropy
from petkit.models.batch import IndexArray, collate
from petkit.models.size import ModelSize, model_size
from petkit.prompts.pattern import Encoded
from petkit.prompts.token_store import TokenStore
from petkit.prompts.tokenizer import PieceTokenizer
from petkit.runs.layout import EVALUATION, SOFT_LABELS, STUDENT
from petkit.storage.parquet_shards import SHARD_ROWS
from petkit.storage.row_array import HELD_ROWS
from petkit.student.model import untrained_student
from petkit.task.task import Task
from petkit.teachers.models import teacher_models

_FLOAT = 4  # bytes
_PER_TRAINED = 3 * _FLOAT  # bytes: a parameter's gradient and AdamW's two moments; in a checkpoint, itself and the moments
_CHECKPOINTS = 2  # the last one is removed only when the next is whole
_ADAPTER_SHARE = 0.02  # of the model's parameters: an upper guess, as adapters differ with their options
_TOKENIZER_ENTRY, _TABLE = 60, 2_000  # bytes of a tokenizer's files per token, of a Parquet file without rows
_SOFT_ROW, _ANSWER_ROW = 30, 40  # bytes of a row in addition to its logits: id, label, entropy, agreement, weight; id and labels
_PROCESS = 500_000_000  # bytes of Python and the libraries, where the system does not report it
_IMPORTED_LATER = ("sklearn.metrics", "transformers.modeling_utils")
_VOTE_SECONDS = 1e-7  # of stage B without reading, per row, teacher and label
_WRITTEN_PER_SECOND = 200e6  # bytes written, hashed and forced to disk
_SCORED = 8  # rows at a time where scoring is timed


class Speed(NamedTuple):
    """Seconds for loading the teachers' model, tokenising a row, scoring it, and training a plain step of each model."""

    loading: float
    reading: float
    scoring: float
    teacher_step: float
    student_step: float


@dataclass(frozen=True)
class Trained:
    """A model to be trained, and the first unlabelled rows as it reads them."""

    settings: TeachersSpec | StudentSpec
    size: ModelSize
    rows: Sequence[Encoded]
    tokenizer: PieceTokenizer

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self.size.parameters if self.settings.adapted is None else int(_ADAPTER_SHARE * self.size.parameters)

    def memory(self, device: Device) -> int:
        """Bytes of weights, gradients and moments of those trained, and the activations of every token.

        The last is ``layers · tokens · (66 · hidden + 9 · heads · length)`` bytes: Korthikanti et al. (2022), equation 1, in
        float32 instead of 16 bits and with attention as a matrix of its own.
        """
        settings, size, length = self.settings, self.size, max(len(row.ids) for row in self.rows)
        kept: float = size.layers * settings.batch_size * length * (66 * size.hidden + 9 * size.heads * length)
        if isinstance(settings, StudentSpec):
            kept *= 1 + settings.gold_batch_size / settings.batch_size
        elif settings.auxiliary_mlm_weight:
            kept += 3 * _FLOAT * settings.mlm_share * settings.unlabeled_batch_size * length * size.vocabulary
        weights = size.parameters * (_FLOAT + (2 if device.precision == "bfloat16" else 0))
        return weights + self.parameters * _PER_TRAINED + int(kept * passes(settings))

    def seconds_per_step(self, model: nn.Module, batch_size: int, labels: int, device: Device) -> float:
        """Seconds of a training step with the plain loss."""
        rows = [self.rows[index % len(self.rows)] for index in range(max(len(self.rows), 2 * batch_size))]

        def loss_of(prepared: Any, batch: IndexArray) -> Tensor:
            logits = prepared(collate([rows[index] for index in batch], self.tokenizer).to(device.name))
            return cross_entropy(logits, torch.arange(len(batch), device=logits.device) % labels)

        def train(steps: int) -> None:
            batches = training_batches([len(row.ids) for row in rows], batch_size, steps, 1)
            with suppress(TrainingDiverged):  # the run will report it
                fit(model, batches, loss_of, self.settings.in_training, device)

        return _seconds(train)


class StepCosts:
    """Disk, memory and time of a pipeline's steps, from its first unlabelled rows and the sizes of its models."""

    def __init__(self, task: Task, device: Device) -> None:
        self.task, self.device = task, device
        self.labels, self.rows = len(task.labels), task.scans["unlabeled"].rows
        spec, pvp, plain, head = task.spec, task.pvps[0], task.student_pattern, task.scans["unlabeled"].head
        started = time.perf_counter()
        keys = list(dict.fromkeys(key for entry in task.pvps for key in entry.pattern.keys))
        own = TokenStore.build(head, task.tokenizer, keys, task.max_length, spec.truncate)
        self.reading = (time.perf_counter() - started) / own.rows
        students = TokenStore.build(head, task.student_tokenizer, plain.keys, task.student_max_length, spec.truncate)
        rows = [pvp.encode(tokens) for tokens in own]
        self.teacher = Trained(spec.teachers, model_size(spec.model), rows, task.tokenizer)
        size, rows = model_size(spec.student_model, self.labels), [plain.encode(tokens) for tokens in students]
        self.student = Trained(spec.student, size, rows, task.student_tokenizer)
        every = np.arange(own.rows)
        tokens = own.row_lengths(keys, every).mean() + students.row_lengths(plain.keys, every).mean()
        self.token_bytes = 4 * float(tokens) + 8 * (len(keys) + len(plain.keys))

    def written(self, step: str) -> int:
        """Return how many bytes a step leaves in the run folder."""
        logits, tables = self.labels * _FLOAT, -(-self.rows // SHARD_ROWS) * _TABLE
        teacher, student = self.teacher, self.student
        if step == SOFT_LABELS:
            return self.rows * (logits + _SOFT_ROW) + tables
        if step == STUDENT:
            merged = student.settings.adapted is not None and student.settings.adapted.mergeable
            parameters = student.size.parameters if merged else student.parameters
            return _FLOAT * parameters + student.size.vocabulary * _TOKENIZER_ENTRY
        if step == EVALUATION or step.startswith("baselines/"):
            return self.task.scans["test"].rows * (logits + _ANSWER_ROW)
        if step.endswith("/model"):
            return _FLOAT * teacher.parameters + (not teacher.settings.adapted) * teacher.size.vocabulary * _TOKENIZER_ENTRY
        return self.rows * logits + tables if step.endswith("/logits") else _TABLE

    def passing(self, steps: Sequence[str]) -> int:
        """Return the bytes of temporary files while these steps are worked on: token ids, soft labels."""
        soft_labels = (self.labels + 3) * _FLOAT if STUDENT in steps else 0
        return int(self.rows * (self.token_bytes + soft_labels)) if self.rows > HELD_ROWS else 0

    def checkpoints(self, steps: Sequence[str]) -> int:
        """Return the bytes of checkpoints, which are made where a training takes long and there is room."""
        models = [self.teacher] * any(map(_trains_a_teacher, steps)) + [self.student] * (STUDENT in steps)
        return _CHECKPOINTS * _PER_TRAINED * max((model.parameters for model in models), default=0)

    def memory(self, step: str) -> int:
        """Return the peak memory of a step in bytes: the process's, or the device's where it has its own."""
        base = process_bytes() if self.device.name == "cpu" else 0
        if step == SOFT_LABELS:
            return base + 10 * SHARD_ROWS * self.labels * _FLOAT * len(self.task.teachers) + self.rows
        if step == STUDENT:
            return base + self.student.memory(self.device) + self.rows * 8
        if _trains_a_teacher(step):
            return base + self.teacher.memory(self.device)
        # Scoring: weights, the widest layer of a batch, and a shard of rows.
        size, tokens = self.teacher.size, self.task.spec.compute.tokens_per_batch
        shard = min(self.rows, SHARD_ROWS) * int(2 * self.token_bytes + 1_000)
        return base + _FLOAT * (size.parameters + tokens * (2 * size.inner + 6 * size.hidden)) + shard

    def seconds(self, step: str, speed: Speed) -> float:
        """Return how long a step takes at a measured speed."""
        task, spec, written = self.task, self.task.spec, self.written(step) / _WRITTEN_PER_SECOND
        if step == SOFT_LABELS:
            return written + self.rows * (speed.reading + _VOTE_SECONDS * len(task.teachers) * self.labels)
        if step == STUDENT:
            return written + speed.loading + spec.student.steps * speed.student_step * passes(spec.student)
        if step == EVALUATION:
            models = len(task.pvps) + sum(teacher.trained for teacher in task.teachers) + 1
            return written + models * (speed.loading + task.scans["test"].rows * speed.scoring)
        if _trains_a_teacher(step):
            training = speed.loading + spec.teachers.steps * speed.teacher_step * passes(spec.teachers)
            training += 2 * len(task.train) * speed.scoring  # its accuracy, before and after
            return written + training * (min(spec.soft_labels.folds, len(task.train)) if step.endswith("/folds") else 1)
        return written + speed.loading + self.rows * speed.scoring

    def measure(self) -> Speed:
        """Time some seconds of what the steps do most. Nothing is written, and torch's random state stays as it is.

        Raises:
            ModelRefused: a model cannot be loaded.
        """
        task, spec, device = self.task, self.task.spec, self.device
        models = teacher_models(spec.model, spec.teachers.adapted, device, task.start_hash("teachers"))
        with torch.random.fork_rng(devices=[]):
            started = time.perf_counter()
            with models.untrained(task.pvps[0]) as scorer:
                loading, rows, at_once = time.perf_counter() - started, self.teacher.rows, spec.compute.tokens_per_batch

                def score(portions: int) -> None:
                    some = [rows[index % len(rows)] for index in range(portions * _SCORED)]
                    label_logits(scorer, some, task.tokenizer, device, at_once)

                scoring = _seconds(score) / _SCORED
            with models.new(task.pvps[0]) as scorer:
                teacher_step = self.teacher.seconds_per_step(scorer, spec.teachers.batch_size, self.labels, device)
            models.release()
            classifier = untrained_student(task, device)
            batch = spec.student.batch_size + (spec.student.gold_batch_size if task.hard_weight else 0)
            student_step = self.student.seconds_per_step(classifier, batch, self.labels, device)
        return Speed(loading, self.reading, scoring, teacher_step, student_step)


def passes(settings: TeachersSpec | StudentSpec) -> float:
    """Number of times the rows of a step go through the trained model; a forward pass of another is a third of one."""
    count = 1.0 + (settings.r_drop_weight > 0)
    count += settings.contrastive.weight > 0 and settings.contrastive.partners == "masked_view"
    if isinstance(settings, StudentSpec):
        return count + (settings.consistency_weight > 0) + (1 / 3 if settings.feature_weight else 0)
    count += settings.unlabeled_batch_size / settings.batch_size if settings.auxiliary_mlm_weight else 0
    return count + (settings.consistency.kind != "none") + (settings.label_conditioning_weight > 0)


def process_bytes() -> int:
    """Memory of this process once it has imported what a run imports later."""
    for module in _IMPORTED_LATER:
        import_module(module)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _PROCESS


def _seconds(work: Callable[[int], None]) -> float:
    """Seconds of a unit of work, by doing more until it takes long enough; the first warms up, and counts only if it is long."""
    for units in (1, 2, 4, 8, 16):
        started = time.perf_counter()
        work(units)
        spent = time.perf_counter() - started
        if spent > (5 if units == 1 else 1):
            break
    return spent / units


def _trains_a_teacher(step: str) -> bool:
    return step.startswith("stage_a/") and step.endswith(("/model", "/folds"))
