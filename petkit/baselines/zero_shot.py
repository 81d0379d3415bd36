"""The untrained patterns together, batch-calibrated on the unlabelled rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from petkit.baselines.base import Answer, Baseline
from petkit.engine.device import Device
from petkit.ensemble import FloatArray, batch_prior, calibrate, combine
from petkit.runs.fingerprint import Inputs, demonstration_inputs, label_words, model_inputs, untrained_inputs
from petkit.runs.step import Job
from petkit.task.task import Task
from petkit.teachers.scoring import shard_logits
from petkit.teachers.untrained import SAMPLE, sample_logits, untrained


def _answer(task: Task, device: Device, job: Job) -> Answer:
    """Score with every untrained pattern, batch-calibrate, and average with equal weights."""
    kind, rows = task.label_kind, task.scans["test"].rows
    total = rows * len(task.pvps)
    answers: list[FloatArray] = []
    for pvp, scorer in untrained(task, device):
        prior = batch_prior(sample_logits(task, pvp, scorer, device, SAMPLE), kind)
        shards = shard_logits(
            scorer, pvp, task, "test", device, lambda done: job.progress(len(answers) * rows + done, total, "rows")
        )
        answers.append(calibrate(np.concatenate(list(shards)), prior))
    how = task.spec.soft_labels.combine
    together = combine(np.stack(answers), np.ones(len(answers), np.float32), how, kind)
    return together, {"calibration": "batch", "combine": how, "patterns": [pvp.id for pvp in task.pvps]}


def _inputs(task: Task, device: Device) -> Inputs:
    """Return what untrained scores depend on, pattern by pattern."""
    spec = task.spec
    inputs: dict[str, Any] = {**task.common_inputs(device), **task.unlabeled_inputs()}
    inputs |= {**model_inputs(task.model_hash, task.max_length), "combine": spec.soft_labels.combine}
    for pattern, pvp in zip(spec.patterns, task.pvps, strict=True):
        inputs[f"pattern.{pvp.id}"] = list(pattern.segments)
        inputs[f"verbalizer.{pvp.id}"] = label_words(pvp.verbalizer.labels)
    inputs |= untrained_inputs(spec)
    if spec.demonstrations.per_label:
        inputs |= {**demonstration_inputs(spec.demonstrations), "data.train": task.scans["train"].sha256}
    return inputs


ZERO_SHOT = Baseline(_answer, _inputs)
