"""Stage A: one language model per pattern and seed, and its logits on the unlabelled set (PET, section 3.1).

Every teacher is a step of its own: a fresh copy of the backbone, seeded alone, so that adding a teacher
changes no other. Its logits are a second step, so that new unlabelled text does not train it again.
Teachers of later generations (iPET, section 3.4) need the logits of those that label their rows. Without
labelled rows, the first generation is every pattern untrained: logits without training.
"""

from __future__ import annotations

from collections.abc import Sequence

from petkit.engine.device import Device
from petkit.engine.inference import label_logits
from petkit.ensemble.calibration import CONTENT_FREE
from petkit.models.label_scorers import LabelScorer
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.inputs import demonstration_inputs, label_words, model_inputs, verbalizer_inputs
from petkit.runs.layout import CONTENT_FREE_FILE, TEACHER_FILE, teacher_folds, teacher_logits, teacher_model
from petkit.runs.step import Job, Step
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import SHARD_ROWS, write_shard
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher, others
from petkit.teachers.ipet import choose_labellers
from petkit.teachers.models import TeacherModels, teacher_scorer
from petkit.teachers.scoring import shard_logits
from petkit.teachers.training import TeacherTraining, describe, teacher_random


def steps(task: Task, device: Device, models: TeacherModels) -> list[Step]:
    """Return the steps of every teacher, generation after generation."""
    found: list[Step] = []
    before: Sequence[Teacher] = ()
    for generation in task.generations:
        for teacher in generation:
            labellers = _labellers(task, teacher, before)
            found += _steps_of(task, device, models, teacher, labellers)
        before = generation
    return found


def _labellers(task: Task, teacher: Teacher, before: Sequence[Teacher]) -> list[Teacher]:
    if teacher.generation == 0:
        return []
    asked = others(teacher, before)
    chosen = choose_labellers(len(asked), task.spec.generations.teacher_share, teacher_random(teacher))
    return [asked[index] for index in chosen]


def _steps_of(task: Task, device: Device, models: TeacherModels, teacher: Teacher, labellers: Sequence[Teacher]) -> list[Step]:
    asked = _asked(task, device, teacher)
    scoring = _Scoring(task, device, models, teacher)
    scored: Inputs = {"step.version": 2, **task.unlabeled_inputs(), "precision": device.precision}
    if not teacher.trained:
        return [Step(teacher_logits(teacher.name), "a", {**asked, **scored}, scoring.score)]
    inputs: Inputs = {
        **asked,
        **_second_pattern(task, teacher),
        "data.train": task.scans["train"].sha256 if task.train else None,
        "teachers.seed": teacher.seed,
        **flat("teachers", task.spec.teachers.fingerprint_settings()),
        **task.start_inputs["teachers"],
    }
    if labellers:
        inputs = {
            **inputs,
            **flat("generations", task.spec.generations.model_dump(exclude={"count"})),
            "generation": teacher.generation,
        }
    if labellers or task.spec.teachers.auxiliary_mlm_weight:
        inputs = {**inputs, "data.unlabeled": task.scans["unlabeled"].sha256}
    needs = tuple(teacher_logits(other.name) for other in labellers)
    training = TeacherTraining(task, device, models, teacher, labellers)
    name = teacher.name
    found = [
        Step(teacher_model(name), "a", inputs, training.train, needs),
        Step(teacher_logits(name), "a", scored, scoring.score, (teacher_model(name),)),
    ]
    soft = task.spec.soft_labels
    if teacher in task.teachers and "out_of_fold" in (soft.weighting, soft.teacher_temperature):
        found.append(Step(teacher_folds(name), "a", {**inputs, "soft_labels.folds": soft.folds}, training.score_folds, needs))
    return found


def _asked(task: Task, device: Device, teacher: Teacher) -> Inputs:
    """Return what a teacher is asked and with which model: the inputs of trained and untrained ones alike."""
    spec, pvp = task.spec, task.pvps[teacher.pattern]
    return {
        "step.version": 2,
        **task.common_inputs(device),
        **model_inputs(task.model_hash, task.max_length),
        "pattern": list(spec.patterns[teacher.pattern].segments),
        "verbalizer": label_words(pvp.verbalizer.labels),
        **verbalizer_inputs(pvp.verbalizer),
        **demonstration_inputs(spec.demonstrations),
        # Untrained, the other adapters leave the model as it is.
        **({"four_bit": True} if spec.teachers.adapter.kind == "qlora" else {}),
    }


def _second_pattern(task: Task, teacher: Teacher) -> Inputs:
    """Return the pattern that consistency compares with, and its label words."""
    if task.spec.teachers.consistency.kind != "second_pattern":
        return {}
    second = task.second_pattern(teacher.pattern)
    words = task.pvps[second].verbalizer.labels
    return {
        "second pattern": list(task.spec.patterns[second].segments),
        "second pattern's verbalizer": label_words(words),
    }


class _Scoring:
    """Writes a teacher's label logits on the unlabelled set, shard by shard, and on content-free text."""

    def __init__(self, task: Task, device: Device, models: TeacherModels, teacher: Teacher) -> None:
        self.task, self.device, self.models, self.teacher = task, device, models, teacher

    def score(self, job: Job) -> None:
        with teacher_scorer(job.store, self.task, self.models, self.teacher) as scorer:
            self._write(job, scorer)
        if not self.teacher.trained:
            write_json(job.folder / TEACHER_FILE, describe(self.task, self.teacher))

    def _write(self, job: Job, scorer: LabelScorer) -> None:
        task, pvp = self.task, self.task.pvps[self.teacher.pattern]
        total = task.scans["unlabeled"].rows
        parts, kept = job.parts(), 0
        for kept, logits in enumerate(parts.load(), 1):
            write_shard(job.folder, kept - 1, {"logits": logits})
        shards = shard_logits(
            scorer, pvp, task, "unlabeled", self.device, lambda done: job.progress(done, total, "rows"), first=kept
        )
        for index, logits in enumerate(shards, kept):
            write_shard(job.folder, index, {"logits": logits})
            if (index + 1) * SHARD_ROWS < total:  # the last is soon published with all of them
                parts.save(index, logits)
        empty = pvp.encode_texts([dict.fromkeys(task.fields, text) for text in CONTENT_FREE], task.tokenizer)
        content_free = label_logits(scorer, empty, task.tokenizer, self.device, task.spec.compute.tokens_per_batch)
        write_json(job.folder / CONTENT_FREE_FILE, {"texts": list(CONTENT_FREE), "logits": content_free.tolist()})
