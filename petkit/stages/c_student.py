"""Stage C: distil the soft labels into one ordinary classifier (PET, section 3.3; Hinton et al. 2015).

Reads soft labels from the run folder and, unless their features are distilled too, nothing else of the
teachers, so it runs as well after a crash, on another machine, or on somebody else's soft labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from petkit.engine.device import Device
from petkit.engine.inference import ClassifierLogits
from petkit.engine.sampling import drawn_batches, training_batches
from petkit.engine.token_masking import TokenMasking
from petkit.engine.training_loop import fit, seed_everything
from petkit.errors import IncompleteRun
from petkit.models.adapters.attach import trained_part
from petkit.models.batch import Batch, IndexArray, collate
from petkit.models.label_scorers import LabelScorer
from petkit.prompts.pvp import PVP
from petkit.prompts.token_store import TokenStore
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.inputs import model_inputs
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE, teacher_model
from petkit.runs.step import Job, Step
from petkit.storage.atomic import write_json
from petkit.storage.row_array import RowArray
from petkit.student.model import new_student, save_student
from petkit.student.objective import Student, StudentObjective, StudentTargets, Turn
from petkit.student.soft_labels import SoftRows, read_soft_rows
from petkit.task.task import Task
from petkit.teachers.models import TeacherModels, teacher_scorer


def steps(task: Task, device: Device, models: TeacherModels) -> list[Step]:
    """Return the one step of this stage."""
    settings = task.spec.student
    inputs: Inputs = {
        "step.version": 2,
        **task.common_inputs(device),
        "fields": list(task.fields),
        **model_inputs(task.student_model_hash, task.student_max_length),
        "data.train": task.scans["train"].sha256 if task.train else None,
        "data.unlabeled": task.scans["unlabeled"].sha256,
        "student.temperature": task.spec.student_temperature,
        **flat("student", settings.fingerprint_settings()),
        **task.start_inputs["student"],
    }
    needs = [SOFT_LABELS]
    if settings.feature_weight and task.teachers[0].trained:
        needs.append(teacher_model(task.teachers[0].name))
    return [Step(STUDENT, "c", inputs, lambda job: _distil(job, task, device, models), tuple(needs))]


def _distil(job: Job, task: Task, device: Device, models: TeacherModels) -> None:
    settings = task.spec.student
    soft = _read_soft_labels(job, task)
    models.release()
    seed_everything(settings.seed)
    multi = task.spec.label_kind == "multi"
    attention = device.training_attention
    classifier = new_student(
        task.spec.student_model,
        task.labels,
        settings.adapted,
        attention,
        multi=multi,
        four_bit=device.four_bit(settings.adapted),
        start_sha256=task.start_hash("student"),
    )
    reader = _Reader(task)
    lesson = StudentTargets(
        soft.labels, soft.weights, torch.from_numpy(task.targets()), task.spec.student_temperature, task.hard_weight
    )
    masking = viewing = None
    if settings.consistency_weight:
        masking = TokenMasking(task.student_tokenizer, settings.masked_share, always=True)
    if settings.contrastive.weight and settings.contrastive.partners == "masked_view":
        viewing = TokenMasking(task.student_tokenizer, settings.contrastive.masked_share, always=True)
    with _teacher_features(job, task, device, models) as teacher:
        student = Student(classifier, teacher.width if teacher else None)
        student.to(device.name)
        objective = StudentObjective(settings, lesson, len(task.labels), reader.batch, device, masking, viewing, teacher)
        losses = fit(
            student,
            _turns(task, reader, soft.kept),
            objective,
            settings.in_training,
            device,
            lambda step, loss: job.trained(step, settings.steps, loss),
            seed=settings.seed,
            checkpoints=job.checkpoints(),
        )
    job.facts.update(trained_part(classifier) if settings.adapted else {})
    job.facts.update(first_loss=losses[0], last_loss=losses[-1])
    _save(job, task, classifier)


def _read_soft_labels(job: Job, task: Task) -> SoftRows:
    """Return what stage B says of the unlabelled rows.

    Raises:
        IncompleteRun: the soft labels in the run folder are for other labels or other rows.
    """
    folder = job.store.path(SOFT_LABELS)
    ensemble = json.loads((folder / ENSEMBLE_FILE).read_text(encoding="utf-8"))
    if tuple(ensemble["labels"]) != task.labels:
        raise IncompleteRun(
            f"{job.store.shown}: the soft labels are for labels {', '.join(ensemble['labels'])} (run petkit stage-b)"
        )
    if ensemble["data.unlabeled"] != task.scans["unlabeled"].sha256:
        raise IncompleteRun(f"{job.store.shown}: the soft labels are for another unlabelled set (run petkit stage-a and stage-b)")
    scratch, multi = task.scratch_of("unlabeled", "soft_labels"), task.spec.label_kind == "multi"
    return read_soft_rows(folder / "soft_labels", ensemble["temperature"], len(task.labels), scratch, multi=multi)


class _Reader:
    """Turns row numbers into batches of student inputs."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.unlabeled = task.tokens("unlabeled", student=True)
        self.gold = task.tokens("train", student=True) if task.train else None

    def batch(self, rows: IndexArray, gold_rows: IndexArray | None) -> Batch:
        pattern = self.task.student_pattern
        encoded = [pattern.encode(tokens) for tokens in self.unlabeled.take(rows)]
        if gold_rows is not None and self.gold is not None:
            encoded += [pattern.encode(tokens) for tokens in self.gold.take(gold_rows)]
        return collate(encoded, self.task.student_tokenizer)

    def lengths(self, store: TokenStore, rows: IndexArray) -> IndexArray:
        return store.row_lengths(self.task.student_pattern.keys, rows)


@contextmanager
def _teacher_features(job: Job, task: Task, device: Device, models: TeacherModels) -> Iterator[_TeacherFeatures | None]:
    """Lend the features of the first teacher, where they are distilled."""
    if not task.spec.student.feature_weight:
        yield None
        return
    teacher = task.teachers[0]
    with teacher_scorer(job.store, task, models, teacher) as scorer:
        yield _TeacherFeatures(task, device, task.pvps[teacher.pattern], scorer)


class _TeacherFeatures:
    """Gives the features of a teacher at the mask, for rows as they come."""

    def __init__(self, task: Task, device: Device, pvp: PVP, scorer: LabelScorer) -> None:
        self.task, self.device, self.pvp, self.scorer = task, device, pvp, scorer
        self.width = int(scorer.reader.model.config.get_text_config().hidden_size)

    def __call__(self, rows: IndexArray) -> Tensor:
        store = self.task.tokens("unlabeled")
        encoded = [self.pvp.encode(tokens) for tokens in store.take(rows)]
        batch = collate(encoded, self.task.tokenizer).to(self.device.name)
        with torch.no_grad(), self.device.autocast:
            self.scorer(batch)
        return self.scorer.features.float()


def _turns(task: Task, reader: _Reader, kept: RowArray) -> Iterator[Turn]:
    """Yield rows of the unlabelled set that count and, while the gold loss does, of the few-shot examples."""
    settings = task.spec.student

    def lengths_of(rows: IndexArray) -> IndexArray:
        return reader.lengths(reader.unlabeled, kept[rows])

    drawn = drawn_batches(len(kept), lengths_of, settings.batch_size, settings.steps, settings.seed)
    soft = (kept[rows] for rows in drawn)
    gold: Iterator[IndexArray | None] = iter([None] * settings.steps)
    if task.hard_weight and reader.gold is not None:
        lengths = reader.lengths(reader.gold, np.arange(reader.gold.rows))
        gold = training_batches(lengths, settings.gold_batch_size, settings.steps, settings.seed + 1)
    for step, (rows, gold_rows) in enumerate(zip(soft, gold, strict=True), 1):
        yield Turn(rows, gold_rows, np.random.default_rng([settings.seed, step]))


def _save(job: Job, task: Task, student: ClassifierLogits) -> None:
    """Write a plain transformers folder, and beside it what petkit needs to read rows the same way."""
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
