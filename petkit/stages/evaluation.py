"""The test set, looked at once, at the end: the student, and on a sample every pattern untrained, every teacher, the ensemble.

Nothing here feeds back into any stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from petkit.data.examples import Example, targets_of
from petkit.data.groups import GroupNumbers
from petkit.data.repeats import seen_in_training
from petkit.engine.device import Device, prepare_for_inference
from petkit.ensemble import Ensemble, FloatArray, calibrate, combine
from petkit.ensemble.agreement import COLLAPSED_SHARE
from petkit.events import Notice
from petkit.metrics import Decision, Metrics, compare, evaluate, evaluate_candidates
from petkit.metrics.decision import Chosen
from petkit.models.batch import IndexArray
from petkit.models.label_scorer import LabelScorer
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

# Enough for the label priors of patterns untrained: each share is known to about three hundredths.
CALIBRATION_ROWS = 200


def steps(task: Task, device: Device, models: TeacherModels) -> list[Step]:
    """Return the evaluation step, or nothing where there is no test set."""
    if task.spec.data.test is None:
        return []
    inputs: Inputs = {
        "step.version": 5,
        **task.unlabeled_inputs(),
        "label_kind": task.spec.label_kind,
        **flat("student", {"thresholds": task.spec.student.thresholds}),
        "data.test": task.scans["test"].sha256,
        "model": task.model_hash,
        "precision": device.precision,
        "evaluation.teachers": len(task.teacher_test_rows),
    }
    trained = [teacher_model(teacher.name) for teacher in task.teachers if teacher.trained]
    needs = (*trained, SOFT_LABELS, STUDENT)
    return [Step(EVALUATION, "evaluation", inputs, lambda job: _evaluate(job, task, device, models), needs)]


def _evaluate(job: Job, task: Task, device: Device, models: TeacherModels) -> None:
    examples = list(task.rows("test"))
    targets = targets_of(examples, len(task.labels))  # (rows, labels)
    decision = Decision(task.label_kind)
    student_decision = Decision(task.label_kind, tuple(map(task.spec.student.threshold, task.labels)))
    sample = task.teacher_test_rows
    groups = task.scans["test"].groups  # (rows,)
    figures = _Figures(task, examples, targets)
    metrics: dict[str, Any] = {"rows": len(examples), "label_kind": task.label_kind.value}
    columns: dict[str, Any] = {"id": [example.id for example in examples], "gold": figures.named(targets > 0, decision)}
    progress, lost = _Progress(job, task, len(sample)), []
    if len(sample):
        ensemble = Ensemble.from_json(job.store.read(SOFT_LABELS, ENSEMBLE_FILE))
        logits = _teacher_logits(job, task, device, models, sample, progress)
        combined = ensemble.combine(np.stack([logits.teachers[name] for name in ensemble.members]))
        metrics |= {"teacher_rows": len(sample), **_teacher_metrics(task, ensemble, logits, targets[sample])}
        of_sample = None if groups is None else groups[sample]
        metrics["ensemble"] = figures.of(combined, decision, of_sample, sample).to_dict()
        lost = _lost_by_training(task, ensemble, logits.patterns, combined, targets[sample], of_sample)
        named = dict(zip(sample.tolist(), figures.named(decision.chosen(combined), decision, sample), strict=True))
        columns["ensemble"] = [named.get(row) for row in range(len(examples))]
        job.facts.update(ensemble_accuracy=metrics["ensemble"]["accuracy"])
    models.release()
    student = _student_logits(job, task, device, progress)
    given = student_decision.chosen(student)
    metrics["student"] = figures.of(student, student_decision, groups).to_dict()
    metrics["warnings"] = (
        seen_in_training("data.test", examples, task.train, "id", task.described)
        + (_collapsed(given, targets > 0, task.labels) if task.label_kind.fixed else [])
        + lost
    )
    for warning in metrics["warnings"]:
        job.on_event(Notice(job.step, warning))
    metrics["warnings"] += _unknown_tokens(task)
    write_json(job.folder / METRICS_FILE, metrics)
    columns |= {"student": figures.named(given, decision), "probabilities": figures.probabilities(student)}
    write_shard(job.folder / "predictions", 0, columns)
    job.facts.update(student_accuracy=metrics["student"]["accuracy"])


class _Figures:
    """What all answers to the test rows are compared with: gold labels or, of each row, its right candidates."""

    def __init__(self, task: Task, examples: Sequence[Example], targets: FloatArray) -> None:
        self.kind, self.labels, self.targets = task.label_kind, task.labels, targets
        self.texts = [] if task.candidates is None else [task.candidates.texts(example.fields) for example in examples]

    def of(self, logits: FloatArray, decision: Decision, groups: GroupNumbers | None, rows: IndexArray | None = None) -> Metrics:
        """Return the metrics of the logits of some rows (default: all), shape ``(rows, labels)``."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.kind.fixed:
            return evaluate(logits, targets, self.labels, decision, groups)
        return evaluate_candidates(logits, targets, self._texts(rows), groups)

    def named(self, chosen: Chosen, decision: Decision, rows: IndexArray | None = None) -> list[Any]:
        """Return the labels that some rows are given; of candidates, their texts, as a list where several are right."""
        if self.kind.fixed:
            return decision.named(chosen, self.labels)
        named = [[own[number] for number in np.flatnonzero(given)] for own, given in zip(self._texts(rows), chosen, strict=True)]
        return [texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False) for texts in named]

    def probabilities(self, logits: FloatArray) -> Any:
        """Return the probabilities of every row's labels, or of as many candidates as it has."""
        found = self.kind.probabilities(logits)
        return found if self.kind.fixed else [row[: len(own)].tolist() for row, own in zip(found, self.texts, strict=True)]

    def _texts(self, rows: IndexArray | None) -> list[list[str]]:
        return self.texts if rows is None else [self.texts[row] for row in rows]


class _Progress:
    """Reports how many rows are scored, of all that all models are to score."""

    def __init__(self, job: Job, task: Task, sample: int) -> None:
        self.job, self.before = job, 0
        self.total = sample * (len(task.pvps) + sum(teacher.trained for teacher in task.teachers)) + task.scans["test"].rows

    def of(self, rows: int, note: str) -> Callable[[int], None]:
        """Return what to call with the number of rows scored by the next model, of so many."""
        before, self.before = self.before, self.before + rows
        return lambda done: self.job.progress(before + done, self.total, "rows", note)


@dataclass(frozen=True)
class _TeacherLogits:
    """Label logits of the sampled test rows, each of shape ``(rows, labels)``: of the untrained patterns ``raw`` and calibrated
    in each way, and of the teachers by name."""

    patterns: Sequence[Mapping[str, FloatArray]]
    teachers: Mapping[str, FloatArray]


def _teacher_logits(
    job: Job, task: Task, device: Device, models: TeacherModels, sample: IndexArray, progress: _Progress
) -> _TeacherLogits:
    """Score the sampled test rows with one teacher after another."""

    def logits_of(scorer: LabelScorer, pvp: PVP, note: str) -> FloatArray:
        on_rows = progress.of(len(sample), note)
        return np.concatenate(list(shard_logits(scorer, pvp, task, "test", device, on_rows, numbers=sample)))

    def of_pattern(pvp: PVP, scorer: LabelScorer) -> dict[str, FloatArray]:
        raw = logits_of(scorer, pvp, f"{pvp.id}, untrained")
        if not task.label_kind.fixed:  # candidates have no prior
            return {"raw": raw}
        priors = priors_of(
            task, content_free_logits(task, pvp, scorer, device), sample_logits(task, pvp, scorer, device, CALIBRATION_ROWS)
        )
        return {"raw": raw, **{str(way): calibrate(raw, prior) for way, prior in priors.items()}}

    def of_teacher(teacher: Teacher) -> FloatArray:
        with teacher_scorer(job.store, task, models, teacher) as scorer:
            return logits_of(scorer, task.pvps[teacher.pattern], teacher.name)

    # No variable here names a scorer, which would keep its model in memory while the next one is loaded.
    patterns = [of_pattern(pvp, scorer) for pvp, scorer in untrained(task, device, models=models)]
    teachers = {
        teacher.name: of_teacher(teacher) if teacher.trained else patterns[teacher.pattern]["raw"] for teacher in task.teachers
    }
    return _TeacherLogits(patterns, teachers)


def _teacher_metrics(task: Task, ensemble: Ensemble, logits: _TeacherLogits, targets: FloatArray) -> dict[str, Any]:
    """Return the figures of the patterns untrained, together too, and of the teachers; all arrays have shape ``(rows, labels)``."""
    decision, before = Decision(task.label_kind), logits.patterns

    def accuracies(answers: Mapping[str, FloatArray]) -> dict[str, float]:
        return {how: decision.accuracy(own, targets) for how, own in answers.items()}

    patterns = [accuracies(answers) for answers in before]
    equal = np.ones(len(before), np.float32)
    ways = {way: np.stack([answers[way] for answers in before]) for way in before[0]}  # each (patterns, rows, labels)
    together = accuracies({way: combine(answers, equal, ensemble.how, ensemble.kind) for way, answers in ways.items()})
    return {
        "zero_shot": {"patterns": dict(zip([pvp.id for pvp in task.pvps], patterns, strict=True)), "ensemble": together},
        "teachers": {
            teacher.name: {
                "pattern": task.pvps[teacher.pattern].id,
                "untrained_accuracy": patterns[teacher.pattern]["raw"],
                "calibrated_accuracy": patterns[teacher.pattern].get("batch"),
                "accuracy": decision.accuracy(logits.teachers[teacher.name], targets),
                "trained": teacher.trained,
            }
            for teacher in task.teachers
        },
        "untrained_ensemble": {"accuracy": together["raw"]},
    }


def _student_logits(job: Job, task: Task, device: Device, progress: _Progress) -> FloatArray:
    """Score all test rows with the student, shape ``(rows, labels)``."""
    student = load_student(job.store.path(STUDENT), job.store.read(STUDENT, STUDENT_FILE))
    prepare_for_inference(student, device)
    on_rows = progress.of(task.scans["test"].rows, "student")
    return np.concatenate(list(shard_logits(student, None, task, "test", device, on_rows)))


def _unknown_tokens(task: Task) -> list[str]:
    """Return a warning where a tokenizer does not know much of the test rows, which was reported as they were tokenised."""
    student = task.tokens("test", student=True)
    teachers = task.tokens("test") if len(task.teacher_test_rows) else student
    read = {"the model": teachers.legibility} | ({} if teachers is student else {"the student's model": student.legibility})
    return [legibility.remark("data.test", name) for name, legibility in read.items() if legibility and legibility.doubtful]


def _lost_by_training(
    task: Task,
    ensemble: Ensemble,
    patterns: Sequence[Mapping[str, FloatArray]],
    combined: FloatArray,
    targets: FloatArray,
    groups: GroupNumbers | None,
) -> list[str]:
    """Return a warning where the patterns of the teachers knew more untrained, beyond chance; nothing is chosen on the test set."""
    if not any(teacher.trained for teacher in task.teachers):
        return []
    decision, way = Decision(task.label_kind), task.spec.soft_labels.calibration  # as the trained ensemble is calibrated
    pattern_of = {teacher.name: patterns[teacher.pattern] for teacher in task.teachers}
    alike = np.stack([pattern_of[name].get(way, pattern_of[name]["raw"]) for name in ensemble.members])
    untrained_logits = combine(alike, ensemble.weights.astype(np.float32), ensemble.how, ensemble.kind)
    trained, before = (decision.right(logits, targets) for logits in (combined, untrained_logits))
    found = compare(trained, before, groups)
    low, high = found.interval
    if high >= 0:
        return []
    other = "other descriptions (verbalizer.descriptions), " if task.described and not task.train else ""
    rate = "teachers.learning_rate" if task.spec.teachers.adapted is None else "teachers.adapter.learning_rate"
    return [
        f"training lost some of what the model knew: the untrained patterns have {found.baseline:.1%} of {len(targets):,} test rows right, "
        f"the trained teachers {found.student:.1%} ({100 * found.difference:+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}; "
        f"{other}fewer teachers.steps or a lower {rate} may keep it)"
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
