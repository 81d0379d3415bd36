"""Stage A: one language model per pattern and seed, and its logits on the unlabelled set (PET, section 3.1).

Every teacher is a step of its own, seeded alone, so that adding a teacher changes no other. Its logits are a second step, so
that new unlabelled text does not train it again. Teachers of later generations (iPET, section 3.4) need the logits of those
that label their rows. Without labelled rows and descriptions of the labels, the first generation is every pattern untrained:
logits without training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from petkit.engine.device import Device
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import teacher_folds, teacher_logits, teacher_model
from petkit.runs.step import Step
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher, others
from petkit.teachers.ipet import choose_labellers
from petkit.teachers.models import TeacherModels
from petkit.teachers.scoring import write_logits
from petkit.teachers.training import TeacherTraining, scoring_inputs, teacher_random, training_inputs


def steps(task: Task, device: Device, models: TeacherModels) -> list[Step]:
    """Return the steps of every teacher, generation after generation."""
    return [
        step
        for before, generation in pairwise([(), *task.generations])
        for teacher in generation
        for step in _steps_of(task, device, models, teacher, before)
    ]


def _steps_of(task: Task, device: Device, models: TeacherModels, teacher: Teacher, before: Sequence[Teacher]) -> list[Step]:
    name, score = teacher.name, partial(write_logits, task=task, device=device, models=models, teacher=teacher)
    scored: Inputs = {"step.version": 2, **task.unlabeled_inputs(), "precision": device.precision}
    if not teacher.trained:
        return [Step(teacher_logits(name), "a", {**scoring_inputs(task, device, teacher), **scored}, score)]
    labellers: list[Teacher] = []
    if teacher.generation:
        candidates = others(teacher, before)
        chosen = choose_labellers(len(candidates), task.spec.generations.teacher_share, teacher_random(teacher))
        labellers = [candidates[index] for index in chosen]
    inputs = training_inputs(task, device, teacher, labellers)
    needs = tuple(teacher_logits(other.name) for other in labellers)
    training = TeacherTraining(task, device, models, teacher, labellers)
    found = [
        Step(teacher_model(name), "a", inputs, training.train, needs),
        Step(teacher_logits(name), "a", scored, score, (teacher_model(name),)),
    ]
    soft = task.spec.soft_labels
    if teacher in task.teachers and soft.out_of_fold:
        found.append(Step(teacher_folds(name), "a", {**inputs, "soft_labels.folds": soft.folds}, training.score_folds, needs))
    return found
