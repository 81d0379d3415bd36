"""The test set, looked at once, at the end: every pattern untrained, every teacher, the ensemble, the student.

Nothing here feeds back into any stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

import numpy as np

from petkit.data.examples import targets_of
from petkit.data.repeats import seen_in_training
from petkit.engine.device import Device, prepare_for_inference
from petkit.ensemble import Ensemble, FloatArray, calibrate, combine
from petkit.ensemble.agreement import COLLAPSED_SHARE
from petkit.events import Notice
from petkit.metrics import Comparison, Decision, compare, evaluate
from petkit.metrics.decision import Chosen
from petkit.models.label_scorers import LabelScorer
from petkit.prompts.pvp import PVP
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.layout import ENSEMBLE_FILE, EVALUATION, METRICS_FILE, SOFT_LABELS, STUDENT, STUDENT_FILE, teacher_model
from petkit.runs.step import Job, Step
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import write_shard
from petkit.student.model import load_student
from petkit.task.task import Task
from petkit.task.teacher_list import Teacher
from petkit.teachers.models import TeacherModels, teacher_scorer
from petkit.teachers.scoring import shard_logits
from petkit.teachers.untrained import content_free_logits, priors_of, sample_logits, untrained

Logits: TypeAlias = dict[str, FloatArray]


def steps(task: Task, device: Device, models: TeacherModels) -> list[Step]:
    """Return the evaluation step, or nothing where there is no test set."""
    if task.spec.data.test is None:
        return []
    inputs: Inputs = {
        "step.version": 4,
        **task.unlabeled_inputs(),
        "label_kind": task.spec.label_kind,
        **flat("student", {"thresholds": task.spec.student.thresholds}),
        "data.test": task.scans["test"].sha256,
        "model": task.model_hash,
        "precision": device.precision,
    }
    trained = [teacher_model(teacher.name) for teacher in task.teachers if teacher.trained]
    needs = (*trained, SOFT_LABELS, STUDENT)
    return [Step(EVALUATION, "evaluation", inputs, lambda job: _evaluate(job, task, device, models), needs)]


def _evaluate(job: Job, task: Task, device: Device, models: TeacherModels) -> None:
    examples = list(task.rows("test"))
    targets = targets_of(examples, len(task.labels))  # (rows, labels)
    decision = Decision(task.label_kind)
    student_decision = Decision(task.label_kind, tuple(map(task.spec.student.threshold, task.labels)))
    ensemble = Ensemble.from_json(job.store.read(SOFT_LABELS, ENSEMBLE_FILE))
    before, teachers, student = _logits(job, task, device, models)
    combined = ensemble.combine(np.stack([teachers[name] for name in ensemble.members]))

    def accuracies(answers: Mapping[str, FloatArray]) -> dict[str, float]:
        return {how: decision.accuracy(logits, targets) for how, logits in answers.items()}

    patterns = [accuracies(answers) for answers in before]
    equal = np.ones(len(before), np.float32)
    ways = {way: np.stack([answers[way] for answers in before]) for way in before[0]}  # each (patterns, rows, labels)
    together = accuracies({way: combine(answers, equal, ensemble.how, ensemble.kind) for way, answers in ways.items()})
    metrics: dict[str, Any] = {
        "rows": len(examples),
        "label_kind": task.spec.label_kind,
        "zero_shot": {"patterns": dict(zip([pvp.id for pvp in task.pvps], patterns, strict=True)), "ensemble": together},
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
    given = student_decision.chosen(student)
    metrics["warnings"] = seen_in_training("data.test", examples, task.train, "id")
    metrics["warnings"] += _collapsed(given, targets > 0, task.labels)
    if any(teacher.trained for teacher in task.teachers):
        way = task.spec.soft_labels.calibration  # as the trained ensemble is calibrated
        pattern_of = {teacher.name: before[teacher.pattern] for teacher in task.teachers}
        alike = np.stack([pattern_of[name].get(way, pattern_of[name]["raw"]) for name in ensemble.members])
        untrained_logits = combine(alike, ensemble.weights.astype(np.float32), ensemble.how, ensemble.kind)
        right = [(decision.chosen(logits) == (targets > 0)).all(axis=-1) for logits in (combined, untrained_logits)]
        metrics["warnings"] += _lost_by_training(compare(*right), task)
    for warning in metrics["warnings"]:
        job.on_event(Notice(job.step, warning))
    metrics["warnings"] += _unknown_tokens(task)
    write_json(job.folder / METRICS_FILE, metrics)
    columns = {
        "id": [example.id for example in examples],
        "gold": decision.named(targets > 0, task.labels),
        "student": decision.named(given, task.labels),
        "ensemble": decision.named(decision.chosen(combined), task.labels),
        "probabilities": task.label_kind.probabilities(student),
    }
    write_shard(job.folder / "predictions", 0, columns)
    job.facts.update(student_accuracy=metrics["student"]["accuracy"], ensemble_accuracy=metrics["ensemble"]["accuracy"])


def _logits(job: Job, task: Task, device: Device, models: TeacherModels) -> tuple[list[Logits], Logits, FloatArray]:
    """Score the test rows with one model after another; all label logits have shape ``(rows, labels)``.

    Returns those of every untrained pattern, ``raw`` and calibrated in each way; of every teacher; and of the student.
    """
    rows, scored = task.scans["test"].rows, count()
    total = rows * (len(task.pvps) + sum(teacher.trained for teacher in task.teachers) + 1)

    def progress(note: str) -> Callable[[int], None]:
        before = next(scored) * rows
        return lambda done: job.progress(before + done, total, "rows", note)

    def logits_of(scorer: Any, pvp: PVP | None, note: str) -> FloatArray:
        return np.concatenate(list(shard_logits(scorer, pvp, task, "test", device, progress(note))))

    def pattern_logits(pvp: PVP, scorer: LabelScorer) -> Logits:
        raw = logits_of(scorer, pvp, f"{pvp.id}, untrained")
        priors = priors_of(task, content_free_logits(task, pvp, scorer, device), sample_logits(task, pvp, scorer, device))
        return {"raw": raw, **{str(way): calibrate(raw, prior) for way, prior in priors.items()}}

    def teacher_logits(teacher: Teacher) -> FloatArray:
        with teacher_scorer(job.store, task, models, teacher) as scorer:
            return logits_of(scorer, task.pvps[teacher.pattern], teacher.name)

    # No variable here names a scorer, which would keep its model in memory while the next one is loaded.
    patterns = [pattern_logits(pvp, scorer) for pvp, scorer in untrained(task, device, models=models)]
    teachers = {
        teacher.name: teacher_logits(teacher) if teacher.trained else patterns[teacher.pattern]["raw"]
        for teacher in task.teachers
    }
    models.release()
    student = load_student(job.store.path(STUDENT), job.store.read(STUDENT, STUDENT_FILE))
    prepare_for_inference(student, device)
    return patterns, teachers, logits_of(student, None, "student")


def _unknown_tokens(task: Task) -> list[str]:
    """Return a warning where a tokenizer does not know much of the test rows, which was reported as they were tokenised."""
    readers = dict.fromkeys((task.tokens("test"), task.tokens("test", student=True)))
    read = [(store.legibility, name) for store, name in zip(readers, ("the model", "the student's model"), strict=False)]
    return [legibility.remark("data.test", name) for legibility, name in read if legibility and legibility.doubtful]


def _lost_by_training(found: Comparison, task: Task) -> list[str]:
    """Return a warning where the patterns of the teachers knew more untrained, beyond chance; nothing is chosen on the test set."""
    low, high = found.interval
    if high >= 0:
        return []
    rate = "teachers.learning_rate" if task.spec.teachers.adapted is None else "teachers.adapter.learning_rate"
    return [
        f"training lost some of what the model knew: the untrained patterns have {found.baseline:.1%} of the test rows right, "
        f"the trained teachers {found.student:.1%} ({100 * found.difference:+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}; "
        f"fewer teachers.steps or a lower {rate} may keep it)"
    ]


def _collapsed(given: Chosen, gold: Chosen, labels: Sequence[str]) -> list[str]:
    """Return a warning where the student gives (nearly) every row one label, though few have it; arguments ``(rows, labels)``.

    >>> gold = np.eye(2, dtype=bool)[[0, 1, 0, 1]]
    >>> _collapsed(np.eye(2, dtype=bool)[[0, 0, 0, 0]], gold, ["bad", "good"])[0].partition(" (")[0]
    "the student predicts label 'bad' for 100% of the test rows, but 50% have it: it has collapsed to one label"
    """
    most = int(given.sum(axis=0).argmax())
    share, have = given[:, most].mean(), gold[:, most].mean()
    others = np.delete(given, most, axis=1).any(axis=1).mean()
    if share < COLLAPSED_SHARE or others > 1 - COLLAPSED_SHARE or have >= COLLAPSED_SHARE:
        return []
    return [
        f"the student predicts label {labels[most]!r} for {share:.0%} of the test rows, but {have:.0%} have it: it has collapsed "
        "to one label (see the label_counts in stage_b/ensemble.json; more student.steps may help)"
    ]
