"""Logistic regression on the vectors of the frozen backbone: what the model knows without any training.

A row's vector is the mean of its tokens' in the last layer, as in benchmarks of sentence vectors (Muennighoff et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from petkit.baselines.base import Answer, Baseline, targets, train_inputs
from petkit.baselines.linear import linear_logits
from petkit.engine.device import Device, prepare_for_inference
from petkit.ensemble import FloatArray
from petkit.models.batch import Batch
from petkit.runs.fingerprint import Inputs, model_inputs
from petkit.runs.step import Job
from petkit.student.model import new_student
from petkit.task.task import Task
from petkit.teachers.scoring import shard_logits


class MeanVector(nn.Module):
    """Reads each row of a batch as the mean of its tokens' vectors."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Batch) -> Tensor:
        """Return vectors, shape ``(batch, hidden)``, float32."""
        hidden = self.encoder(**batch.model_inputs)[0].float()  # (batch, length, hidden)
        inside = batch.attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean: Tensor = (hidden * inside).sum(1) / inside.sum(1)
        return mean


def _answer(task: Task, device: Device, job: Job) -> Answer:
    reader = MeanVector(new_student(task.spec.student_model, task.labels, task.label_kind, None, None).detach().base_model)
    prepare_for_inference(reader, device)
    known, new = (np.concatenate(list(_vectors(reader, task, part, device, job))) for part in ("train", "test"))
    logits, strength = linear_logits(known, targets(task), new, task.label_kind)
    return logits, {"C": strength, "pooling": "mean"}


def _vectors(reader: MeanVector, task: Task, part: str, device: Device, job: Job) -> Iterator[FloatArray]:
    total = task.scans[part].rows
    return shard_logits(reader, None, task, part, device, lambda done: job.progress(done, total, "rows"))


def _inputs(task: Task, device: Device) -> Inputs:
    model = model_inputs(task.student_model_hash, task.student_max_length)
    return {**train_inputs(task, device), **task.common_inputs(device), **model}


PROBE = Baseline(_answer, _inputs)
