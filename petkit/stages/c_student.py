"""Stage C: distil the soft labels into one ordinary classifier (PET, section 3.3; Hinton et al. 2015).

Reads soft labels from the run folder and, unless their features are distilled too, nothing else of the
teachers, so it also runs after a crash, on another machine, or on soft labels from elsewhere.
"""

from __future__ import annotations

from contextlib import nullcontext

from petkit.engine.device import Device
from petkit.runs.fingerprint import Inputs, flat, model_inputs
from petkit.runs.layout import SOFT_LABELS, STUDENT, teacher_model
from petkit.runs.step import Job, Step
from petkit.student.training import train_student
from petkit.task.task import Task
from petkit.teachers.models import TeacherModels, teacher_scorer


def steps(task: Task, device: Device, models: TeacherModels) -> list[Step]:
    """Return the one step of this stage."""
    settings = task.spec.student
    inputs: Inputs = {
        "step.version": 3,
        **task.common_inputs(device),
        "fields": list(task.fields),
        **model_inputs(task.student_model_hash, task.student_max_length),
        "data.train": task.scans["train"].sha256 if task.train else None,
        **task.unlabeled_rows(),
        "student.temperature": task.spec.student_temperature,
        **flat("student", settings.fingerprint_settings()),
        **task.start_inputs["student"],
    }
    needs = [SOFT_LABELS]
    if settings.feature_weight and task.teachers[0].trained:
        needs.append(teacher_model(task.teachers[0].name))
    return [Step(STUDENT, "c", inputs, lambda job: _distil(job, task, device, models), tuple(needs))]


def _distil(job: Job, task: Task, device: Device, models: TeacherModels) -> None:
    models.release()
    distils = task.spec.student.feature_weight > 0
    train_student(job, task, device, teacher_scorer(job.store, task, models, task.teachers[0]) if distils else nullcontext())
