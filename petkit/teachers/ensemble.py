"""The ensemble of a run's finished teachers: weights, temperatures, label priors, dropped teachers and label bias.

The teachers' logits are read shard by shard, as often as needed, so that memory does not grow with the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from petkit.config.schema.training import SoftLabelsSpec
from petkit.ensemble import CALIBRATIONS, Ensemble, FloatArray, TeacherAgreement, TeacherScores, fit_temperature, normalised
from petkit.ensemble.calibration import TOLERANCE, match_prior, prior_shares
from petkit.ensemble.combine import rounded
from petkit.errors import IncompleteRun
from petkit.events import Notice
from petkit.runs.fingerprint import Inputs, changes
from petkit.runs.layout import CONTENT_FREE_FILE, TEACHER_FILE, teacher_folds, teacher_logits, teacher_model
from petkit.runs.step import Job
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix, read_shards
from petkit.task.task import Task


def reads_train(settings: SoftLabelsSpec) -> bool:
    """Return whether these settings need the labelled rows."""
    return settings.out_of_fold or settings.prior == "train"


def form_ensemble(job: Job, task: Task, teachers: Sequence[str]) -> Ensemble:
    """Return the ensemble of a run's teachers under ``soft_labels``."""
    settings, store, kind = task.spec.soft_labels, job.store, task.label_kind
    # Weights are accuracies on the labelled rows: before training (the paper), or of rows held out of training.
    accuracies, temperatures = [1.0] * len(teachers), [1.0] * len(teachers)
    if settings.out_of_fold:
        refuse_other_rows(store, task, [teacher_folds(teacher) for teacher in teachers], "train")
        targets = np.asarray(task.targets(), np.int64)  # (rows,), or (rows, labels) of 0 and 1
        gold = targets if targets.ndim == 2 else targets[:, None]  # (rows, questions)
        held_out = [read_matrix(store.path(teacher_folds(teacher)), "logits") for teacher in teachers]  # each (rows, labels)
        if settings.weighting == "out_of_fold":
            accuracies = [float((kind.choices(logits) == gold).mean()) for logits in held_out]
        if settings.teacher_temperature == "out_of_fold":
            temperatures = rounded([fit_temperature(logits, gold, kind) for logits in held_out])
    if settings.weighting == "train_accuracy":
        paths = [store.path(teacher_model(teacher)) / TEACHER_FILE for teacher in teachers]
        accuracies = [float(json.loads(path.read_text(encoding="utf-8"))["untrained_accuracy"]) for path in paths]
    ensemble = Ensemble.plain(task.fixed_labels, kind, settings.combine, teachers, normalised(accuracies))
    ensemble = replace(ensemble, temperatures=np.array(temperatures))
    if calibration := CALIBRATIONS[settings.calibration]:
        log_priors = [rounded(calibration(_scores(store, ensemble, index))) for index in range(len(teachers))]
        ensemble = replace(ensemble, log_priors=np.array(log_priors))
    if settings.drop_collapsed:
        ensemble = _without_collapsed(job, ensemble)
    if settings.prior != "none":
        shares = prior_shares(settings.prior, task.labels, [example.label for example in task.train if example.label is not None])
        bias, distance = match_prior(lambda: combined_shards(store, ensemble), shares)
        if distance > TOLERANCE:
            job.on_event(Notice(job.step, f"the soft labels meet their prior only to within {distance:.4f}"))
        ensemble = replace(ensemble, label_bias=np.array(rounded(bias)))
    return ensemble


def teacher_shards(store: RunStore, teachers: Sequence[str]) -> Iterator[FloatArray]:
    """Yield the teachers' raw logits on the unlabelled set shard by shard, shape ``(teachers, rows, labels)``."""
    readers = [read_shards(store.path(teacher_logits(teacher)), ["logits"]) for teacher in teachers]
    for shards in zip(*readers, strict=True):
        yield np.stack([shard["logits"] for shard in shards])


def combined_shards(store: RunStore, ensemble: Ensemble) -> Iterator[FloatArray]:
    """Yield the ensemble's logits on the unlabelled set shard by shard, shape ``(rows, labels)``."""
    return map(ensemble.combine, teacher_shards(store, ensemble.members))


def refuse_other_rows(store: RunStore, task: Task, made: Sequence[str], part: str) -> None:
    """Refuse logits, written by the steps ``made``, that are not of the current rows of ``part`` or have other labels."""
    expected: Inputs = {"labels": list(task.fixed_labels), f"data.{part}": task.scans[part].sha256}
    for step in made:
        made_for = {name: store.inputs(step).get(name) for name in expected}
        if made_for != dict(expected):
            _, teacher, which = step.split("/")
            named = "logits" if which == "logits" else "out-of-fold logits"
            changed = changes(made_for, expected)
            raise IncompleteRun(
                f"{store.shown}: the {named} of teacher {teacher} are out of date: {changed} (run petkit stage-a --force)"
            )


def _scores(store: RunStore, ensemble: Ensemble, index: int) -> TeacherScores:
    """Return one teacher's logits, at its temperature, for a calibration to read."""
    teacher, temperature = ensemble.members[index], float(ensemble.temperatures[index])

    def shards() -> Iterator[FloatArray]:
        return (logits[0] / temperature for logits in teacher_shards(store, [teacher]))

    return TeacherScores(ensemble.kind, len(ensemble.labels), partial(_content_free, store, teacher, temperature), shards)


def _content_free(store: RunStore, teacher: str, temperature: float) -> FloatArray:
    path = store.path(teacher_logits(teacher)) / CONTENT_FREE_FILE
    if not path.is_file():
        raise IncompleteRun(f"{store.shown}: teacher {teacher} has no content-free scores (run petkit stage-a --force)")
    logits = np.array(json.loads(path.read_text(encoding="utf-8"))["logits"], np.float32)
    return logits / temperature


def _without_collapsed(job: Job, ensemble: Ensemble) -> Ensemble:
    """Return the ensemble without the teachers that predict (nearly) a single label, and report them."""
    agreement = TeacherAgreement(ensemble)
    for logits in teacher_shards(job.store, ensemble.members):
        agreement.add(logits, ensemble.combine(logits))
    collapsed = agreement.collapsed()
    rest = ensemble.without(collapsed)
    if rest is None:
        job.on_event(Notice(job.step, "every teacher predicts (nearly) a single label; none was dropped"))
        return ensemble
    for teacher, share in collapsed.items():
        job.on_event(Notice(job.step, f"teacher {teacher} was dropped: it predicts the same label for {share:.0%} of the rows"))
    return rest
