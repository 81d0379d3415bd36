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
from petkit.engine.device import Arithmetic, prepare_for_inference
from petkit.engine.training_loop import fit, seed_everything
from petkit.ensemble.calibration import batch_prior, calibrate
from petkit.ensemble.combine import FloatArray, combine
from petkit.losses.objectives import binary_cross_entropy, cross_entropy
from petkit.models.batch import IndexArray, collate, training_batches
from petkit.models.loading import model_source
from petkit.runs.step import Job
from petkit.student.model import new_student
from petkit.task.task import Workload
from petkit.teachers.scoring import shard_logits, student_logits
from petkit.teachers.untrained import sample_logits, untrained

# Logits of the test rows, shape (rows, labels), and the settings they were made with.
Answer: TypeAlias = tuple[FloatArray, dict[str, Any]]
# What of the student's settings the supervised baseline shares: all that trains, nothing that distils.
_STUDENT_KEYS = frozenset(
    ("seed", "steps", "batch_size", "learning_rate", "warmup", "weight_decay", "adam_epsilon", "max_grad_norm", "dropout")
)


def _majority(work: Workload, arithmetic: Arithmetic, job: Job) -> Answer:
    return majority_logits(_targets(work), work.scans["test"].rows, multi=_is_multi(work)), {}


def _tfidf(work: Workload, arithmetic: Arithmetic, job: Job) -> Answer:
    return tfidf_logits(_texts(work, "train"), _targets(work), _texts(work, "test"), multi=_is_multi(work))


def _zero_shot(work: Workload, arithmetic: Arithmetic, job: Job) -> Answer:
    """Ask every pattern untrained, take off what it favours on unlabelled rows, and let all vote alike."""
    multi, rows = _is_multi(work), work.scans["test"].rows
    answers: list[FloatArray] = []
    for pvp, scorer in untrained(work, arithmetic):
        favoured = batch_prior(sample_logits(work, pvp, scorer, arithmetic), multi=multi)
        before = len(answers) * rows
        shards = shard_logits(scorer, pvp, work, "test", arithmetic, partial(_tell_rows, job, before, len(work.pvps) * rows))
        answers.append(calibrate(np.concatenate(list(shards)), favoured))
    how = work.spec.soft_labels.combine
    together = combine(np.stack(answers), np.ones(len(answers), np.float32), how, multi=multi)
    return together, {"calibration": "batch", "combine": how, "patterns": [pvp.id for pvp in work.pvps]}


def _setfit(work: Workload, arithmetic: Arithmetic, job: Job) -> Answer:
    return setfit_logits(
        model_source(work.spec.model),
        _texts(work, "train"),
        _targets(work),
        _texts(work, "test"),
        multi=_is_multi(work),
        max_length=work.max_length,
        seed=work.spec.student.seed,
        device=arithmetic.device,
    )


def _supervised(work: Workload, arithmetic: Arithmetic, job: Job) -> Answer:
    """Train the student's backbone, or its adapter, as stage C does, on the few-shot rows and nothing else."""
    settings = work.spec.student
    loss = binary_cross_entropy if _is_multi(work) else cross_entropy
    targets = torch.from_numpy(work.targets())  # (rows,) classes, or (rows, labels) where a row may have several
    rows = [work.student_pattern.encode(tokens) for tokens in work.tokens("train", student=True)]
    seed_everything(settings.seed)
    classifier = new_student(
        work.spec.student_model,
        work.labels,
        settings.adapted,
        arithmetic.training_attention,
        multi=_is_multi(work),
        four_bit=arithmetic.four_bit(settings.adapted),
        start_sha256=work.start_hash("student"),
    )
    classifier.to(arithmetic.device)

    def loss_of(model: nn.Module, batch: IndexArray) -> Tensor:
        logits = model(collate([rows[index] for index in batch], work.student_tokenizer).to(arithmetic.device))
        return loss(logits, targets[batch].to(logits.device))

    fit(
        classifier,
        training_batches([len(row.ids) for row in rows], settings.batch_size, settings.steps, settings.seed),
        loss_of,
        settings.in_training,
        arithmetic,
        lambda step, loss: job.trained(step, settings.steps, loss),
        seed=settings.seed,
        checkpoints=job.checkpoints(),
    )
    prepare_for_inference(classifier, arithmetic)
    shards = student_logits(classifier, work, "test", arithmetic, partial(_tell_rows, job, 0, work.scans["test"].rows))
    return np.concatenate(list(shards)), student_settings(work)


def student_settings(work: Workload) -> dict[str, Any]:
    """Return those of the student's settings that can change the supervised baseline."""
    student = work.spec.student
    keys = _STUDENT_KEYS | {"adapter"} if student.adapted else _STUDENT_KEYS
    return {key: value for key, value in student.in_force().items() if key in keys}


def _tell_rows(job: Job, before: int, total: int, done: int) -> None:
    job.progress(before + done, total, "rows")


def _is_multi(work: Workload) -> bool:
    return work.spec.label_kind == "multi"


def _targets(work: Workload) -> FloatArray:
    """Return the labels of the few-shot rows, shape ``(rows, labels)``."""
    return targets_of(work.train, len(work.labels))


def _texts(work: Workload, part: str) -> list[str]:
    """Return the rows as plain texts, all fields of a row one after another."""
    examples = work.train if part == "train" else work.rows(part)
    return [" ".join(example.fields[field] for field in work.fields) for example in examples]


METHODS: dict[str, Callable[[Workload, Arithmetic, Job], Answer]] = {
    "majority": _majority,
    "tfidf": _tfidf,
    "zero_shot": _zero_shot,
    "supervised": _supervised,
    "setfit": _setfit,
}
