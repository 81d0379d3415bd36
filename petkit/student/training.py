"""Training a student on the soft labels of a run (PET, section 3.3; Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits
from petkit.engine.sampling import StepRows, drawn_batches, smaller_batches, step_rows, training_batches
from petkit.engine.training_loop import fit
from petkit.ensemble import LabelKind, log_softmax
from petkit.errors import IncompleteRun
from petkit.models.adapters.attach import trained_part
from petkit.models.batch import Batch, IndexArray, collate
from petkit.models.freezing import freeze_lower
from petkit.models.label_scorer import LabelScorer
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT_FILE
from petkit.runs.step import Job
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import read_shards
from petkit.storage.ragged import widened
from petkit.storage.row_array import RowArray
from petkit.student.model import save_student, untrained_student
from petkit.student.objective import Student, StudentObjective, StudentTargets
from petkit.task.task import Task


def train_student(job: Job, task: Task, device: Device, teacher: AbstractContextManager[LabelScorer | None]) -> None:
    """Train a classifier on soft labels, labelled rows and, where it is given, the features of a ``teacher``; write it."""
    settings = task.spec.student
    soft, weights, kept = read_soft_labels(job.store, task)
    classifier, rows = untrained_student(task, device), _StudentRows(task)
    gold = torch.from_numpy(task.targets())
    targets = StudentTargets(soft, weights, gold, task.spec.student_temperature, task.hard_weight)
    freeze_lower(classifier.model, settings.freeze)
    with teacher as scorer:
        features = None if scorer is None else _TeacherFeatures(task, device, scorer)
        student = Student(classifier, features.width if features else None)
        student.to(device.name)
        losses = fit(
            student,
            rows.steps(kept),
            StudentObjective(settings, targets, task.labels, rows.batch, task.student_tokenizer, device, features),
            settings.in_training,
            device,
            lambda step, loss: job.trained(step, settings.steps, loss),
            seed=settings.seed,
            checkpoints=job.checkpoints(),
        )
    job.facts.update(trained_part(classifier) if settings.adapted else {})
    sizes = {"batch_size": (len(kept), settings.batch_size)}
    sizes |= {"gold_batch_size": (len(task.train), settings.gold_batch_size)} if task.hard_weight else {}
    job.facts.update(**smaller_batches(**sizes), first_loss=losses[0], last_loss=losses[-1])
    write_student(job.folder, task, device, classifier)


# Soft labels (rows, labels) and weights (rows,), as StudentTargets has them, and the numbers of the rows of weight above 0.
SoftRows: TypeAlias = tuple[RowArray, RowArray, RowArray]


def read_soft_labels(store: RunStore, task: Task) -> SoftRows:
    """Return the soft labels of a finished stage B; refuse those for other labels or other rows."""
    folder, ensemble = store.path(SOFT_LABELS), store.read(SOFT_LABELS, ENSEMBLE_FILE)
    if tuple(ensemble["labels"]) != task.fixed_labels:
        raise IncompleteRun(f"{store.shown}: the soft labels are for labels {', '.join(ensemble['labels'])} (run petkit stage-b)")
    if ensemble["data.unlabeled"] != task.scans["unlabeled"].sha256:
        raise IncompleteRun(f"{store.shown}: the soft labels are for another unlabelled set (run petkit stage-a and stage-b)")
    scratch = task.scratch_of("unlabeled", "soft_labels")
    return read_soft_rows(folder / "soft_labels", ensemble["temperature"], len(task.labels), task.label_kind, scratch)


def read_soft_rows(folder: Path, temperature: float, labels: int, kind: LabelKind, scratch: Path | None) -> SoftRows:
    """Return the soft labels of a folder of shards, stored in ``scratch``; None: in memory."""
    soft = RowArray(np.float32, (labels,), scratch and scratch / "labels.float32")
    weights = RowArray(np.float32, path=scratch and scratch / "weights.float32")
    kept = RowArray(np.int64, path=scratch and scratch / "kept.int64")
    for shard in read_shards(folder, ["logits", "weight"]):
        logits, own = shard["logits"], np.asarray(shard["weight"], np.float32)
        kept.append(len(weights) + np.flatnonzero(own > 0))
        logits = widened(logits, labels)
        soft.append(logits / np.float32(temperature) if kind.multi else log_softmax(logits, temperature))
        weights.append(own)
    return soft, weights, kept


def write_student(folder: Path, task: Task, device: Device, student: ClassifierLogits) -> None:
    """Write a transformers folder, and with it the settings with which petkit encodes rows for it."""
    settings = task.spec.student
    adapter = save_student(student, task.spec.student_model, settings.adapted, folder, keep=settings.keep_adapter)
    task.student_tokenizer.save(folder, task.student_pattern.max_length, task.spec.truncate)
    record = {
        "task": task.spec.task,
        "labels": task.fixed_labels,
        "fields": task.fields,
        **task.reading,
        "max_length": task.student_pattern.max_length,
        "truncate": task.spec.truncate,
        "verbatim": True,
        "label_kind": task.label_kind.value,
        "precision": device.precision,
        **adapter,
        "thresholds": [settings.threshold(label) for label in task.fixed_labels],
    }
    write_json(folder / STUDENT_FILE, record)


class _StudentRows:
    """Batches of student inputs by row number, and the numbers of every step."""

    def __init__(self, task: Task) -> None:
        self.task, self.pattern = task, task.student_pattern
        self.unlabeled = task.tokens("unlabeled", student=True)
        self.labelled = task.tokens("train", student=True) if task.train else None

    def batch(self, unlabeled: IndexArray, labelled: IndexArray | None) -> Batch:
        tokens = self.unlabeled.take(unlabeled)
        if labelled is not None and self.labelled is not None:
            tokens += self.labelled.take(labelled)
        return collate([self.pattern.encode(row) for row in tokens], self.task.student_tokenizer)

    def steps(self, kept: RowArray) -> Iterator[StepRows]:
        """Yield unlabelled rows of weight above 0 and, while labelled rows have a share of the loss, those."""
        settings, keys = self.task.spec.student, self.pattern.keys
        steps, seed = settings.steps, settings.seed
        drawn = drawn_batches(
            len(kept), lambda rows: self.unlabeled.row_lengths(keys, kept[rows]), settings.batch_size, steps, seed
        )
        labelled = None
        if self.task.hard_weight and self.labelled is not None:
            lengths = self.labelled.row_lengths(keys, np.arange(self.labelled.rows))
            labelled = training_batches(lengths, settings.gold_batch_size, steps, seed + 1)
        return step_rows((kept[rows] for rows in drawn), labelled, seed)


class _TeacherFeatures:
    """The features of the first teacher at the mask, for unlabelled rows by number."""

    def __init__(self, task: Task, device: Device, scorer: LabelScorer) -> None:
        self.task, self.device, self.scorer = task, device, scorer
        self.pvp = task.pvps[task.teachers[0].pattern]
        self.width = int(scorer.reader.model.config.get_text_config().hidden_size)

    def __call__(self, rows: IndexArray) -> Tensor:
        encoded = [self.pvp.encode(tokens) for tokens in self.task.tokens("unlabeled").take(rows)]
        batch = collate(encoded, self.task.tokenizer).to(self.device.name)
        with torch.no_grad(), self.device.autocast:
            self.scorer(batch)
        return self.scorer.features.float()
