"""The student's backbone fine-tuned on the labelled rows alone, without soft labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from petkit.baselines.base import Answer, Baseline, train_inputs
from petkit.engine.device import Device, prepare_for_inference
from petkit.engine.sampling import smaller_batches, training_batches
from petkit.engine.training_loop import fit
from petkit.losses import binary_cross_entropy, cross_entropy
from petkit.models.batch import IndexArray, collate
from petkit.models.freezing import freeze_lower
from petkit.runs.fingerprint import Inputs, flat, model_inputs
from petkit.runs.step import Job
from petkit.student.model import untrained_student
from petkit.task.task import Task
from petkit.teachers.scoring import shard_logits

# The student's settings that also apply here: those of training, none of distillation.
_STUDENT_KEYS = frozenset(
    [
        "seed",
        "freeze",
        "steps",
        "batch_size",
        "learning_rate",
        "warmup",
        "weight_decay",
        "adam_epsilon",
        "max_grad_norm",
        "dropout",
    ]
)


def _answer(task: Task, device: Device, job: Job) -> Answer:
    """Train the student's backbone, or its adapter, as stage C does, on the labelled rows alone."""
    settings = task.spec.student
    loss = binary_cross_entropy if task.label_kind.multi else cross_entropy
    targets = torch.from_numpy(task.targets())  # (rows,) classes, or (rows, labels) where a row may have several
    rows = [task.student_pattern.encode(tokens) for tokens in task.tokens("train", student=True)]
    classifier = untrained_student(task, device)
    freeze_lower(classifier.model, settings.freeze)

    def loss_of(model: nn.Module, batch: IndexArray) -> Tensor:
        logits = model(collate([rows[index] for index in batch], task.student_tokenizer).to(device.name))
        return loss(logits, targets[batch].to(logits.device))

    fit(
        classifier,
        training_batches([len(row.ids) for row in rows], settings.batch_size, settings.steps, settings.seed),
        loss_of,
        settings.in_training,
        device,
        lambda step, loss: job.trained(step, settings.steps, loss),
        seed=settings.seed,
        checkpoints=job.checkpoints(),
    )
    job.facts.update(smaller_batches(batch_size=(len(rows), settings.batch_size)))
    prepare_for_inference(classifier, device)
    total = task.scans["test"].rows
    shards = shard_logits(classifier, None, task, "test", device, lambda done: job.progress(done, total, "rows"))
    return np.concatenate(list(shards)), _settings(task)


def _settings(task: Task) -> dict[str, Any]:
    """Return the student's settings that can change this baseline."""
    student = task.spec.student
    keys = _STUDENT_KEYS | {"adapter"} if student.adapted else _STUDENT_KEYS
    return {key: value for key, value in student.fingerprint_settings().items() if key in keys}


def _inputs(task: Task, device: Device) -> Inputs:
    return {
        **train_inputs(task, device),
        **task.common_inputs(device),
        **model_inputs(task.student_model_hash, task.student_max_length),
        **flat("student", _settings(task)),
        **task.start_inputs["student"],
    }


SUPERVISED = Baseline(_answer, _inputs)
