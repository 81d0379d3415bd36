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

from petkit.engine.device import Arithmetic
from petkit.engine.inference import ClassifierLogits
from petkit.engine.token_masking import TokenMasking
from petkit.engine.training_loop import fit, seed_everything
from petkit.errors import IncompleteRun
from petkit.models.adapters.attach import trained_part
from petkit.models.batch import Batch, IndexArray, collate, drawn_batches, training_batches
from petkit.models.label_scorers import LabelScorer
from petkit.prompts.pvp import PVP
from petkit.prompts.token_store import TokenStore
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.layout import ENSEMBLE_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE, teacher_model
from petkit.runs.step import Job, Step
from petkit.storage.atomic import write_json
from petkit.storage.row_array import RowArray
from petkit.student.model import new_student, save_student
from petkit.student.objective import Lesson, Student, StudentObjective, Turn
from petkit.student.soft_labels import SoftRows, read_soft_rows
from petkit.task.task import Workload
from petkit.teachers.models import TeacherModels, teacher_scorer


def steps(work: Workload, arithmetic: Arithmetic, models: TeacherModels) -> list[Step]:
    """Return the one step of this stage."""
    settings = work.spec.student
    inputs: Inputs = {
        "step.version": 2,
        **work.common_inputs(arithmetic),
        "fields": list(work.fields),
        "model": work.student_model_hash,
        "max_length": work.student_max_length,
        "data.train": work.scans["train"].sha256 if work.train else None,
        "data.unlabeled": work.scans["unlabeled"].sha256,
        "student.temperature": work.spec.student_temperature,
        **flat("student", settings.in_force()),
        **work.start_inputs["student"],
    }
    needs = [SOFT_LABELS]
    if settings.feature_weight and work.teachers[0].trained:
        needs.append(teacher_model(work.teachers[0].name))
    return [Step(STUDENT, "c", inputs, lambda job: _distil(job, work, arithmetic, models), tuple(needs))]


def _distil(job: Job, work: Workload, arithmetic: Arithmetic, models: TeacherModels) -> None:
    settings = work.spec.student
    soft = _read_soft_labels(job, work)
    models.forget()
    seed_everything(settings.seed)
    multi = work.spec.label_kind == "multi"
    attention = arithmetic.training_attention
    classifier = new_student(
        work.spec.student_model,
        work.labels,
        settings.adapted,
        attention,
        multi=multi,
        four_bit=arithmetic.four_bit(settings.adapted),
        start_sha256=work.start_hash("student"),
    )
    reader = _Reader(work)
    lesson = Lesson(soft.labels, soft.weights, torch.from_numpy(work.targets()), work.spec.student_temperature, work.hard_weight)
    masking = viewing = None
    if settings.consistency_weight:
        masking = TokenMasking(work.student_tokenizer, settings.masked_share, always=True)
    if settings.contrastive.weight and settings.contrastive.partners == "masked_view":
        viewing = TokenMasking(work.student_tokenizer, settings.contrastive.masked_share, always=True)
    with _teacher_features(job, work, arithmetic, models) as teacher:
        student = Student(classifier, teacher.width if teacher else None)
        student.to(arithmetic.device)
        objective = StudentObjective(settings, lesson, len(work.labels), reader.batch, arithmetic, masking, viewing, teacher)
        losses = fit(
            student,
            _turns(work, reader, soft.kept),
            objective,
            settings.in_training,
            arithmetic,
            lambda step, loss: job.trained(step, settings.steps, loss),
            seed=settings.seed,
            checkpoints=job.checkpoints(),
        )
    job.facts.update(trained_part(classifier) if settings.adapted else {})
    job.facts.update(first_loss=losses[0], last_loss=losses[-1])
    _save(job, work, classifier)


def _read_soft_labels(job: Job, work: Workload) -> SoftRows:
    """Return what stage B says of the unlabelled rows.

    Raises:
        IncompleteRun: the soft labels in the run folder are for other labels or other rows.
    """
    folder = job.store.path(SOFT_LABELS)
    ensemble = json.loads((folder / ENSEMBLE_FILE).read_text(encoding="utf-8"))
    if tuple(ensemble["labels"]) != work.labels:
        raise IncompleteRun(
            f"{job.store.shown}: the soft labels are for labels {', '.join(ensemble['labels'])} (run petkit stage-b)"
        )
    if ensemble["data.unlabeled"] != work.scans["unlabeled"].sha256:
        raise IncompleteRun(f"{job.store.shown}: the soft labels are for another unlabelled set (run petkit stage-a and stage-b)")
    scratch, multi = work.scratch_of("unlabeled", "soft_labels"), work.spec.label_kind == "multi"
    return read_soft_rows(folder / "soft_labels", ensemble["temperature"], len(work.labels), scratch, multi=multi)


class _Reader:
    """Turns row numbers into batches of student inputs."""

    def __init__(self, work: Workload) -> None:
        self.work = work
        self.unlabeled = work.tokens("unlabeled", student=True)
        self.gold = work.tokens("train", student=True) if work.train else None

    def batch(self, rows: IndexArray, gold_rows: IndexArray | None) -> Batch:
        pattern = self.work.student_pattern
        encoded = [pattern.encode(tokens) for tokens in self.unlabeled.take(rows)]
        if gold_rows is not None and self.gold is not None:
            encoded += [pattern.encode(tokens) for tokens in self.gold.take(gold_rows)]
        return collate(encoded, self.work.student_tokenizer)

    def lengths(self, store: TokenStore, rows: IndexArray) -> IndexArray:
        return store.row_lengths(self.work.student_pattern.keys, rows)


@contextmanager
def _teacher_features(
    job: Job, work: Workload, arithmetic: Arithmetic, models: TeacherModels
) -> Iterator[_TeacherFeatures | None]:
    """Lend the features of the first teacher, where they are distilled."""
    if not work.spec.student.feature_weight:
        yield None
        return
    teacher = work.teachers[0]
    with teacher_scorer(job.store, work, models, teacher) as scorer:
        yield _TeacherFeatures(work, arithmetic, work.pvps[teacher.pattern], scorer)


class _TeacherFeatures:
    """Gives the features of a teacher at the mask, for rows as they come."""

    def __init__(self, work: Workload, arithmetic: Arithmetic, pvp: PVP, scorer: LabelScorer) -> None:
        self.work, self.arithmetic, self.pvp, self.scorer = work, arithmetic, pvp, scorer
        self.width = int(scorer.reader.model.config.get_text_config().hidden_size)

    def __call__(self, rows: IndexArray) -> Tensor:
        store = self.work.tokens("unlabeled")
        encoded = [self.pvp.encode(tokens) for tokens in store.take(rows)]
        batch = collate(encoded, self.work.tokenizer).to(self.arithmetic.device)
        with torch.no_grad(), self.arithmetic.autocast:
            self.scorer(batch)
        return self.scorer.features.float()


def _turns(work: Workload, reader: _Reader, kept: RowArray) -> Iterator[Turn]:
    """Yield rows of the unlabelled set that count and, while the gold loss does, of the few-shot examples."""
    settings = work.spec.student

    def lengths_of(rows: IndexArray) -> IndexArray:
        return reader.lengths(reader.unlabeled, kept[rows])

    drawn = drawn_batches(len(kept), lengths_of, settings.batch_size, settings.steps, settings.seed)
    soft = (kept[rows] for rows in drawn)
    gold: Iterator[IndexArray | None] = iter([None] * settings.steps)
    if work.hard_weight and reader.gold is not None:
        lengths = reader.lengths(reader.gold, np.arange(reader.gold.rows))
        gold = training_batches(lengths, settings.gold_batch_size, settings.steps, settings.seed + 1)
    for step, (rows, gold_rows) in enumerate(zip(soft, gold, strict=True), 1):
        yield Turn(rows, gold_rows, np.random.default_rng([settings.seed, step]))


def _save(job: Job, work: Workload, student: ClassifierLogits) -> None:
    """Write a plain transformers folder, and beside it what petkit needs to read rows the same way."""
    settings = work.spec.student
    about = save_student(student, work.spec.student_model, settings.adapted, job.folder, keep=settings.keep_adapter)
    tokenizer = work.student_tokenizer.hf
    before = tokenizer.model_max_length
    tokenizer.model_max_length = work.student_max_length
    tokenizer.save_pretrained(job.folder)
    tokenizer.model_max_length = before
    description = {
        "task": work.spec.task,
        "labels": work.labels,
        "fields": work.fields,
        **work.reading,
        "max_length": work.student_max_length,
        "truncate": work.spec.truncate,
        "label_kind": work.spec.label_kind,
        **about,
        "thresholds": [work.spec.student.threshold(label) for label in work.labels],
    }
    write_json(job.folder / STUDENT_FILE, description)
