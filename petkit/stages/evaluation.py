"""The test set, looked at once, at the end: every pattern untrained, every teacher, the ensemble, the student.

Nothing here feeds back into any stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from petkit.data.examples import targets_of
from petkit.engine.device import Device, prepare_for_inference
from petkit.ensemble import Ensemble, FloatArray, calibrate, combine
from petkit.events import Notice
from petkit.metrics import Decision, evaluate
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.layout import ENSEMBLE_FILE, EVALUATION, METRICS_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE, teacher_model
from petkit.runs.step import Job, Step
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import write_shard
from petkit.student.model import load_student
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher
from petkit.teachers.models import TeacherModels, teacher_scorer
from petkit.teachers.scoring import shard_logits, student_logits
from petkit.teachers.untrained import log_priors, untrained


def steps(task: Task, device: Device, models: TeacherModels) -> list[Step]:
    """Return the evaluation step, or nothing where there is no test set."""
    if task.spec.data.test is None:
        return []
    inputs: Inputs = {
        "step.version": 3,
        **task.unlabeled_inputs(),
        "label_kind": task.spec.label_kind,
        **flat("student", {"thresholds": task.spec.student.thresholds}),
        "data.test": task.scans["test"].sha256,
        "model": task.model_hash,
        "precision": device.precision,
    }
    trained = [teacher_model(teacher.name) for teacher in task.teachers if teacher.trained]
    return [
        Step(
            EVALUATION,
            "evaluation",
            inputs,
            lambda job: _evaluate(job, task, device, models),
            (*trained, SOFT_LABELS, STUDENT),
        )
    ]


def _evaluate(job: Job, task: Task, device: Device, models: TeacherModels) -> None:
    examples = list(task.rows("test"))
    targets = targets_of(examples, len(task.labels))  # (rows, labels)
    decision = Decision(task.label_kind)
    student_decision = Decision(task.label_kind, task.spec.thresholds)
    ensemble = Ensemble.from_json(json.loads((job.store.path(SOFT_LABELS) / ENSEMBLE_FILE).read_text(encoding="utf-8")))
    test = _TestSet(job, task, device, models)
    before = test.untrained()
    teachers = {
        teacher.name: test.teacher(teacher) if teacher.trained else before[teacher.pattern]["raw"] for teacher in task.teachers
    }
    combined = ensemble.combine(np.stack([teachers[name] for name in ensemble.members]))
    student = test.student()

    def accuracies(answers: Mapping[str, FloatArray]) -> dict[str, float]:
        return {how: decision.accuracy(logits, targets) for how, logits in answers.items()}

    patterns = [accuracies(answers) for answers in before]
    together = accuracies(_untrained_ensemble(before, ensemble))
    metrics: dict[str, Any] = {
        "rows": len(examples),
        "label_kind": task.spec.label_kind,
        "zero_shot": {
            "patterns": {pvp.id: figures for pvp, figures in zip(task.pvps, patterns, strict=True)},
            "ensemble": together,
        },
        "teachers": {
            teacher.name: {
                "pattern": task.pvps[teacher.pattern].id,
                "untrained_accuracy": patterns[teacher.pattern]["raw"],
                "calibrated_accuracy": patterns[teacher.pattern]["batch"],
                "accuracy": decision.accuracy(teachers[teacher.name], targets),
                "trained": teacher.trained,
            }
            for teacher in task.teachers
        },
        "untrained_ensemble": {"accuracy": together["raw"]},
        "ensemble": evaluate(combined, targets, task.labels, decision).to_dict(),
        "student": evaluate(student, targets, task.labels, student_decision).to_dict(),
    }
    rate = "teachers.learning_rate" if task.spec.teachers.adapted is None else "teachers.adapter.learning_rate"
    metrics["warnings"] = _lost_by_training(metrics, rate) if any(teacher.trained for teacher in task.teachers) else []
    for warning in metrics["warnings"]:
        job.on_event(Notice(job.step, warning))
    write_json(job.folder / METRICS_FILE, metrics)
    columns = {
        "id": [example.id for example in examples],
        "gold": decision.named(targets > 0, task.labels),
        "student": decision.named(student_decision.chosen(student), task.labels),
        "ensemble": decision.named(decision.chosen(combined), task.labels),
        "probabilities": task.label_kind.probabilities(student),
    }
    write_shard(job.folder / "predictions", 0, columns)
    job.facts.update(student_accuracy=metrics["student"]["accuracy"], ensemble_accuracy=metrics["ensemble"]["accuracy"])


class _TestSet:
    """Asks one model after another about the test rows; every answer is label logits of shape ``(rows, labels)``."""

    def __init__(self, job: Job, task: Task, device: Device, models: TeacherModels) -> None:
        self.job, self.task, self.device, self.models = job, task, device, models
        self.to_ask = len(task.pvps) + sum(teacher.trained for teacher in task.teachers) + 1
        self.scored = 0

    def untrained(self) -> list[dict[str, FloatArray]]:
        """Return what every pattern answers untrained: ``raw``, and calibrated in each way there is."""
        answers = []
        for pvp, scorer in untrained(self.task, self.device, models=self.models):
            on_rows = self._progress(f"{pvp.id}, untrained")
            raw = np.concatenate(list(shard_logits(scorer, pvp, self.task, "test", self.device, on_rows)))
            priors = log_priors(self.task, pvp, scorer, self.device)
            calibrated: dict[str, FloatArray] = {way: calibrate(raw, prior) for way, prior in priors.items()}
            answers.append({"raw": raw, **calibrated})
        return answers

    def teacher(self, teacher: Teacher) -> FloatArray:
        """Return what a trained teacher answers."""
        pvp = self.task.pvps[teacher.pattern]
        with teacher_scorer(self.job.store, self.task, self.models, teacher) as scorer:
            shards = shard_logits(scorer, pvp, self.task, "test", self.device, self._progress(teacher.name))
            return np.concatenate(list(shards))

    def student(self) -> FloatArray:
        """Return what the student answers."""
        self.models.release()
        folder = self.job.store.path(STUDENT)
        student = load_student(str(folder), json.loads((folder / STUDENT_FILE).read_text(encoding="utf-8")))
        prepare_for_inference(student, self.device)
        return np.concatenate(list(student_logits(student, self.task, "test", self.device, self._progress("student"))))

    def _progress(self, note: str) -> Callable[[int], None]:
        """Begin with the next model; the result takes the number of its finished rows."""
        rows = self.task.scans["test"].rows
        done_before = self.scored * rows
        self.scored += 1
        return lambda done: self.job.progress(done_before + done, self.to_ask * rows, "rows", note)


def _untrained_ensemble(answers: Sequence[Mapping[str, FloatArray]], ensemble: Ensemble) -> dict[str, FloatArray]:
    """Return the logits of all patterns combined with equal weights, by calibration."""
    equal = np.ones(len(answers), np.float32)
    return {way: combine(np.stack([one[way] for one in answers]), equal, ensemble.how, ensemble.kind) for way in answers[0]}


def _lost_by_training(metrics: Mapping[str, Any], rate: str) -> list[str]:
    """Say where the model knew more before it was trained. It only tells: nothing is chosen on the test set."""
    before, after = metrics["zero_shot"]["ensemble"]["batch"], metrics["ensemble"]["accuracy"]
    if after >= before:
        return []
    return [
        f"training lost some of what the model knew: the untrained patterns, calibrated, have {before:.1%} of the test rows right, "
        f"the trained teachers {after:.1%} (soft_labels.calibration: batch may bring it back where labels are about equally "
        f"frequent; fewer teachers.steps or a lower {rate} may keep it)"
    ]


def read_metrics(store: RunStore) -> dict[str, Any] | None:
    """Return the metrics of a finished evaluation, or None."""
    if store.content(EVALUATION) is None:
        return None
    metrics: dict[str, Any] = json.loads((store.path(EVALUATION) / METRICS_FILE).read_text(encoding="utf-8"))
    return metrics
