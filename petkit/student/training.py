"""Training a student on the soft labels of a run (PET, section 3.3; Hinton et al. 2015)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits
from petkit.engine.sampling import StepRows, drawn_batches, step_rows, training_batches
from petkit.engine.training_loop import fit, seed_everything
from petkit.errors import IncompleteRun
from petkit.models.adapters.attach import trained_part
from petkit.models.batch import Batch, IndexArray, collate
from petkit.models.label_scorers import LabelScorer
from petkit.prompts.token_store import TokenStore
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT_FILE
from petkit.runs.step import Job
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.storage.row_array import RowArray
from petkit.student.model import new_student, save_student
from petkit.student.objective import Student, StudentObjective, StudentTargets
from petkit.student.soft_labels import SoftRows, read_soft_rows
from petkit.task.task import Task


def untrained_student(task: Task, device: Device) -> ClassifierLogits:
    """Return the classifier that a student starts from; seeds torch."""
    settings = task.spec.student
    seed_everything(settings.seed)
    return new_student(
        task.spec.student_model,
        task.labels,
        settings.adapted,
        device.training_attention,
        multi=task.label_kind.multi,
        four_bit=device.four_bit(settings.adapted),
        start_sha256=task.start_hash("student"),
    )


def train_student(
    job: Job, task: Task, device: Device, soft: SoftRows, teacher: AbstractContextManager[LabelScorer | None]
) -> ClassifierLogits:
    """Train a classifier on soft labels and labelled rows.

    Args:
        teacher: lends the teacher whose features are distilled; None without feature distillation.

    Raises:
        ModelRefused: the backbone is missing, cannot be loaded or cannot carry the adapter.
        TrainingDiverged: the loss is no longer finite.
    """
    settings = task.spec.student
    classifier = untrained_student(task, device)
    rows = _StudentRows(task)
    gold = torch.from_numpy(task.targets())
    targets = StudentTargets(soft.labels, soft.weights, gold, task.spec.student_temperature, task.hard_weight)
    with teacher as scorer:
        features = None if scorer is None else _TeacherFeatures(task, device, scorer)
        student = Student(classifier, features.width if features else None)
        student.to(device.name)
        losses = fit(
            student,
            rows.steps(soft.kept),
            StudentObjective(settings, targets, len(task.labels), rows.batch, task.student_tokenizer, device, features),
            settings.in_training,
            device,
            lambda step, loss: job.trained(step, settings.steps, loss),
            seed=settings.seed,
            checkpoints=job.checkpoints(),
        )
    job.facts.update(trained_part(classifier) if settings.adapted else {})
    job.facts.update(first_loss=losses[0], last_loss=losses[-1])
    return classifier


def read_soft_labels(store: RunStore, task: Task) -> SoftRows:
    """Read the soft labels of the unlabelled rows from the run folder.

    Raises:
        IncompleteRun: they are for other labels or other rows.
    """
    folder = store.path(SOFT_LABELS)
    ensemble = json.loads((folder / ENSEMBLE_FILE).read_text(encoding="utf-8"))
    if tuple(ensemble["labels"]) != task.labels:
        raise IncompleteRun(f"{store.shown}: the soft labels are for labels {', '.join(ensemble['labels'])} (run petkit stage-b)")
    if ensemble["data.unlabeled"] != task.scans["unlabeled"].sha256:
        raise IncompleteRun(f"{store.shown}: the soft labels are for another unlabelled set (run petkit stage-a and stage-b)")
    scratch, multi = task.scratch_of("unlabeled", "soft_labels"), task.spec.label_kind == "multi"
    return read_soft_rows(folder / "soft_labels", ensemble["temperature"], len(task.labels), scratch, multi=multi)


def save_with_description(job: Job, task: Task, student: ClassifierLogits) -> None:
    """Write a transformers folder, and with it the settings with which petkit encodes rows for it."""
    settings = task.spec.student
    about = save_student(student, task.spec.student_model, settings.adapted, job.folder, keep=settings.keep_adapter)
    tokenizer = task.student_tokenizer.hf
    before = tokenizer.model_max_length
    tokenizer.model_max_length = task.student_max_length
    tokenizer.save_pretrained(job.folder)
    tokenizer.model_max_length = before
    description = {
        "task": task.spec.task,
        "labels": task.labels,
        "fields": task.fields,
        **task.reading,
        "max_length": task.student_max_length,
        "truncate": task.spec.truncate,
        "label_kind": task.spec.label_kind,
        **about,
        "thresholds": [task.spec.student.threshold(label) for label in task.labels],
    }
    write_json(job.folder / STUDENT_FILE, description)


class _StudentRows:
    """Batches of student inputs by row number, and the numbers of every step."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.unlabeled = task.tokens("unlabeled", student=True)
        self.labelled = task.tokens("train", student=True) if task.train else None

    def batch(self, unlabeled: IndexArray, labelled: IndexArray | None) -> Batch:
        pattern = self.task.student_pattern
        encoded = [pattern.encode(tokens) for tokens in self.unlabeled.take(unlabeled)]
        if labelled is not None and self.labelled is not None:
            encoded += [pattern.encode(tokens) for tokens in self.labelled.take(labelled)]
        return collate(encoded, self.task.student_tokenizer)

    def steps(self, kept: RowArray) -> Iterator[StepRows]:
        """Yield unlabelled rows of weight above 0 and, while the gold-label loss has a share, labelled rows."""
        settings = self.task.spec.student

        def lengths_of(rows: IndexArray) -> IndexArray:
            return self._lengths(self.unlabeled, kept[rows])

        drawn = drawn_batches(len(kept), lengths_of, settings.batch_size, settings.steps, settings.seed)
        labelled = None
        if self.task.hard_weight and self.labelled is not None:
            lengths = self._lengths(self.labelled, np.arange(self.labelled.rows))
            labelled = training_batches(lengths, settings.gold_batch_size, settings.steps, settings.seed + 1)
        return step_rows((kept[rows] for rows in drawn), labelled, settings.seed)

    def _lengths(self, store: TokenStore, rows: IndexArray) -> IndexArray:
        return store.row_lengths(self.task.student_pattern.keys, rows)


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
