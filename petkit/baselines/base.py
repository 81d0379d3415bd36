"""How each baseline answers the test rows: from the same few-shot rows, by other means than petkit's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from petkit.baselines.setfit import setfit_logits
from petkit.baselines.tfidf import majority_logits, tfidf_logits
from petkit.data.examples import targets_of
from petkit.engine.device import Device, prepare_for_inference
from petkit.engine.training_loop import fit, seed_everything
from petkit.ensemble.calibration import batch_prior, calibrate
from petkit.ensemble.combine import FloatArray, combine
from petkit.losses import binary_cross_entropy, cross_entropy
from petkit.models.batch import IndexArray, collate, training_batches
from petkit.models.loading import open_folder
from petkit.runs.step import Job
from petkit.student.model import new_student
from petkit.task.task import Task
from petkit.teachers.scoring import shard_logits, student_logits
from petkit.teachers.untrained import sample_logits, untrained

# Logits of the test rows, shape (rows, labels), and the settings they were made with.
Answer: TypeAlias = tuple[FloatArray, dict[str, Any]]
# What of the student's settings the supervised baseline shares: all that trains, nothing that distils.
_STUDENT_KEYS = frozenset(
    ("seed", "steps", "batch_size", "learning_rate", "warmup", "weight_decay", "adam_epsilon", "max_grad_norm", "dropout")
)


def _majority(task: Task, device: Device, job: Job) -> Answer:
    return majority_logits(_targets(task), task.scans["test"].rows, multi=_is_multi(task)), {}


def _tfidf(task: Task, device: Device, job: Job) -> Answer:
    return tfidf_logits(_texts(task, "train"), _targets(task), _texts(task, "test"), multi=_is_multi(task))


def _zero_shot(task: Task, device: Device, job: Job) -> Answer:
    """Ask every pattern untrained, take off what it favours on unlabelled rows, and let all vote alike."""
    multi, rows = _is_multi(task), task.scans["test"].rows
    answers: list[FloatArray] = []
    for pvp, scorer in untrained(task, device):
        favoured = batch_prior(sample_logits(task, pvp, scorer, device), multi=multi)
        before = len(answers) * rows
        shards = shard_logits(scorer, pvp, task, "test", device, partial(_report_rows, job, before, len(task.pvps) * rows))
        answers.append(calibrate(np.concatenate(list(shards)), favoured))
    how = task.spec.soft_labels.combine
    together = combine(np.stack(answers), np.ones(len(answers), np.float32), how, multi=multi)
    return together, {"calibration": "batch", "combine": how, "patterns": [pvp.id for pvp in task.pvps]}


def _setfit(task: Task, device: Device, job: Job) -> Answer:
    return setfit_logits(
        str(open_folder(task.spec.model).path),
        _texts(task, "train"),
        _targets(task),
        _texts(task, "test"),
        multi=_is_multi(task),
        max_length=task.max_length,
        seed=task.spec.student.seed,
        device=device.name,
    )


def _supervised(task: Task, device: Device, job: Job) -> Answer:
    """Train the student's backbone, or its adapter, as stage C does, on the few-shot rows and nothing else."""
    settings = task.spec.student
    loss = binary_cross_entropy if _is_multi(task) else cross_entropy
    targets = torch.from_numpy(task.targets())  # (rows,) classes, or (rows, labels) where a row may have several
    rows = [task.student_pattern.encode(tokens) for tokens in task.tokens("train", student=True)]
    seed_everything(settings.seed)
    classifier = new_student(
        task.spec.student_model,
        task.labels,
        settings.adapted,
        device.training_attention,
        multi=_is_multi(task),
        four_bit=device.four_bit(settings.adapted),
        start_sha256=task.start_hash("student"),
    )
    classifier.to(device.name)

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
    prepare_for_inference(classifier, device)
    shards = student_logits(classifier, task, "test", device, partial(_report_rows, job, 0, task.scans["test"].rows))
    return np.concatenate(list(shards)), student_settings(task)


def student_settings(task: Task) -> dict[str, Any]:
    """Return those of the student's settings that can change the supervised baseline."""
    student = task.spec.student
    keys = _STUDENT_KEYS | {"adapter"} if student.adapted else _STUDENT_KEYS
    return {key: value for key, value in student.fingerprint_settings().items() if key in keys}


def _report_rows(job: Job, before: int, total: int, done: int) -> None:
    job.progress(before + done, total, "rows")


def _is_multi(task: Task) -> bool:
    return task.spec.label_kind == "multi"


def _targets(task: Task) -> FloatArray:
    """Return the labels of the few-shot rows, shape ``(rows, labels)``."""
    return targets_of(task.train, len(task.labels))


def _texts(task: Task, part: str) -> list[str]:
    """Return the rows as plain texts, all fields of a row one after another."""
    examples = task.train if part == "train" else task.rows(part)
    return [" ".join(example.fields[field] for field in task.fields) for example in examples]


METHODS: dict[str, Callable[[Task, Device, Job], Answer]] = {
    "majority": _majority,
    "tfidf": _tfidf,
    "zero_shot": _zero_shot,
    "supervised": _supervised,
    "setfit": _setfit,
}
