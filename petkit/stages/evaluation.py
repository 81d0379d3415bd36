"""The test set, looked at once, at the end: every pattern untrained, every teacher, the ensemble, the student.

Nothing here feeds back into any stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from petkit.data.examples import targets_of
from petkit.engine.device import Arithmetic, prepare_for_inference
from petkit.ensemble.calibration import calibrate
from petkit.ensemble.combine import FloatArray, combine, combine_teachers, is_multi
from petkit.events import Notice
from petkit.metrics.decision import Decision
from petkit.metrics.metrics import evaluate
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.layout import ENSEMBLE_FILE, EVALUATION, METRICS_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE, teacher_model
from petkit.runs.step import Job, Step
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import write_shard
from petkit.student.model import load_student
from petkit.task.task import Workload
from petkit.task.teacher_list import Teacher
from petkit.teachers.models import TeacherModels, teacher_scorer
from petkit.teachers.scoring import shard_logits, student_logits
from petkit.teachers.untrained import log_priors, untrained


def steps(work: Workload, arithmetic: Arithmetic, models: TeacherModels) -> list[Step]:
    """Return the evaluation step, or nothing where there is no test set."""
    if work.spec.data.test is None:
        return []
    inputs: Inputs = {
        "step.version": 3,
        **work.unlabeled_inputs(),
        "label_kind": work.spec.label_kind,
        **flat("student", {"thresholds": work.spec.student.thresholds}),
        "data.test": work.scans["test"].sha256,
        "model": work.model_hash,
        "precision": arithmetic.precision,
    }
    trained = [teacher_model(teacher.name) for teacher in work.teachers if teacher.trained]
    return [
        Step(
            EVALUATION,
            "evaluation",
            inputs,
            lambda job: _evaluate(job, work, arithmetic, models),
            (*trained, SOFT_LABELS, STUDENT),
        )
    ]


def _evaluate(job: Job, work: Workload, arithmetic: Arithmetic, models: TeacherModels) -> None:
    examples = list(work.rows("test"))
    targets = targets_of(examples, len(work.labels))  # (rows, labels)
    decision = Decision(work.spec.label_kind)
    student_decision = Decision(work.spec.label_kind, work.spec.thresholds)
    ensemble = json.loads((job.store.path(SOFT_LABELS) / ENSEMBLE_FILE).read_text(encoding="utf-8"))
    test = _TestSet(job, work, arithmetic, models)
    before = test.untrained()
    teachers = {
        teacher.name: test.teacher(teacher) if teacher.trained else before[teacher.pattern]["raw"] for teacher in work.teachers
    }
    combined = combine_teachers(np.stack([teachers[name] for name in ensemble["teachers"]]), ensemble)
    student = test.student()

    def accuracies(answers: Mapping[str, FloatArray]) -> dict[str, float]:
        return {how: decision.accuracy(logits, targets) for how, logits in answers.items()}

    patterns = [accuracies(answers) for answers in before]
    together = accuracies(_untrained_ensemble(before, ensemble))
    metrics: dict[str, Any] = {
        "rows": len(examples),
        "label_kind": work.spec.label_kind,
        "zero_shot": {
            "patterns": {pvp.id: figures for pvp, figures in zip(work.pvps, patterns, strict=True)},
            "ensemble": together,
        },
        "teachers": {
            teacher.name: {
                "pattern": work.pvps[teacher.pattern].id,
                "untrained_accuracy": patterns[teacher.pattern]["raw"],
                "calibrated_accuracy": patterns[teacher.pattern]["batch"],
                "accuracy": decision.accuracy(teachers[teacher.name], targets),
                "trained": teacher.trained,
            }
            for teacher in work.teachers
        },
        "untrained_ensemble": {"accuracy": together["raw"]},
        "ensemble": evaluate(combined, targets, work.labels, decision).to_dict(),
        "student": evaluate(student, targets, work.labels, student_decision).to_dict(),
    }
    rate = "teachers.learning_rate" if work.spec.teachers.adapted is None else "teachers.adapter.learning_rate"
    metrics["warnings"] = _lost_by_training(metrics, rate) if any(teacher.trained for teacher in work.teachers) else []
    for warning in metrics["warnings"]:
        job.listen(Notice(job.step, warning))
    write_json(job.folder / METRICS_FILE, metrics)
    columns = {
        "id": [example.id for example in examples],
        "gold": decision.named(targets > 0, work.labels),
        "student": decision.named(student_decision.chosen(student), work.labels),
        "ensemble": decision.named(decision.chosen(combined), work.labels),
        "probabilities": decision.probabilities(student),
    }
    write_shard(job.folder / "predictions", 0, columns)
    job.facts.update(student_accuracy=metrics["student"]["accuracy"], ensemble_accuracy=metrics["ensemble"]["accuracy"])


class _TestSet:
    """Asks one model after another about the test rows; every answer is label logits of shape ``(rows, labels)``."""

    def __init__(self, job: Job, work: Workload, arithmetic: Arithmetic, models: TeacherModels) -> None:
        self.job, self.work, self.arithmetic, self.models = job, work, arithmetic, models
        self.to_ask = len(work.pvps) + sum(teacher.trained for teacher in work.teachers) + 1
        self.asked = 0

    def untrained(self) -> list[dict[str, FloatArray]]:
        """Return what every pattern answers untrained: ``raw``, and calibrated in each way there is."""
        answers = []
        for pvp, scorer in untrained(self.work, self.arithmetic, models=self.models):
            on_rows = self._progress(f"{pvp.id}, untrained")
            raw = np.concatenate(list(shard_logits(scorer, pvp, self.work, "test", self.arithmetic, on_rows)))
            priors = log_priors(self.work, pvp, scorer, self.arithmetic)
            calibrated: dict[str, FloatArray] = {way: calibrate(raw, prior) for way, prior in priors.items()}
            answers.append({"raw": raw, **calibrated})
        return answers

    def teacher(self, teacher: Teacher) -> FloatArray:
        """Return what a trained teacher answers."""
        pvp = self.work.pvps[teacher.pattern]
        with teacher_scorer(self.job.store, self.work, self.models, teacher) as scorer:
            shards = shard_logits(scorer, pvp, self.work, "test", self.arithmetic, self._progress(teacher.name))
            return np.concatenate(list(shards))

    def student(self) -> FloatArray:
        """Return what the student answers."""
        self.models.forget()
        folder = self.job.store.path(STUDENT)
        student = load_student(str(folder), json.loads((folder / STUDENT_FILE).read_text(encoding="utf-8")))
        prepare_for_inference(student, self.arithmetic)
        return np.concatenate(list(student_logits(student, self.work, "test", self.arithmetic, self._progress("student"))))

    def _progress(self, note: str) -> Callable[[int], None]:
        """Begin with the next model; the result takes the number of its finished rows."""
        rows = self.work.scans["test"].rows
        done_before = self.asked * rows
        self.asked += 1
        return lambda done: self.job.progress(done_before + done, self.to_ask * rows, "rows", note)


def _untrained_ensemble(answers: Sequence[Mapping[str, FloatArray]], ensemble: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Return the answers of all patterns together, each pattern with the same weight, by way of calibration."""
    weights, how, multi = np.ones(len(answers), np.float32), ensemble["combine"], is_multi(ensemble)
    return {way: combine(np.stack([answer[way] for answer in answers]), weights, how, multi=multi) for way in answers[0]}


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
