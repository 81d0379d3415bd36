"""How the finished teachers of a run vote: weights, temperatures, priors, who is left out, and the bias of each label.

Makes the mapping that ``ensemble.json`` keeps and ``petkit.ensemble.combine.combine_teachers`` applies. What needs the
unlabelled rows reads the teachers' logits shard by shard, as often as it takes, so that memory does not grow with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.config.schema import SoftLabelsSpec
from petkit.ensemble.agreement import Consensus
from petkit.ensemble.calibration import contextual_prior
from petkit.ensemble.combine import FloatArray, choices, combine_teachers, is_multi, leave_out, normalised
from petkit.ensemble.priors import TOLERANCE, match_prior, prior_shares
from petkit.ensemble.temperature import fit_temperature
from petkit.errors import IncompleteRun
from petkit.events import Notice
from petkit.runs.fingerprint import Inputs, changes
from petkit.runs.layout import CONTENT_FREE_FILE, TEACHER_FILE, teacher_folds, teacher_logits, teacher_model
from petkit.runs.step import Job
from petkit.runs.store import RunStore
from petkit.storage.parquet_shards import read_matrix, read_shards
from petkit.task.task import Task


def reads_train(settings: SoftLabelsSpec) -> bool:
    """Say whether these settings need the few-shot examples' labels."""
    return settings.out_of_fold or settings.prior == "train"


def form_ensemble(job: Job, task: Task, teachers: Sequence[str]) -> dict[str, Any]:
    """Return the ensemble of a run's teachers, as ``combine_teachers`` takes it, with the settings that made it.

    Raises:
        IncompleteRun: a teacher's files belong to other rows or labels, or lack what the settings ask for.
    """
    settings, store, labels = task.spec.soft_labels, job.store, list(task.labels)
    # Weights are accuracies on the few-shot examples: before training (the paper), or of rows held out of training.
    accuracies, temperatures = [1.0] * len(teachers), [1.0] * len(teachers)
    if settings.out_of_fold:
        refuse_other_rows(store, task, [teacher_folds(teacher) for teacher in teachers], "train")
        gold, multi = _gold(task), task.spec.label_kind == "multi"
        held_out = [read_matrix(store.path(teacher_folds(teacher)), "logits") for teacher in teachers]  # each (rows, labels)
        if settings.weighting == "out_of_fold":
            accuracies = [float((choices(logits, multi=multi) == gold).mean()) for logits in held_out]
        if settings.teacher_temperature == "out_of_fold":
            temperatures = [round(fit_temperature(logits, gold, multi=multi), 6) for logits in held_out]
    if settings.weighting == "train_accuracy":
        accuracies = untrained_accuracies(store, teachers)
    weights = normalised(accuracies)
    nothing = dict.fromkeys(labels, 0.0)
    ensemble: dict[str, Any] = {
        "labels": labels,
        "label_kind": task.spec.label_kind,
        **settings.model_dump(exclude={"folds"}),
        "teachers": {
            teacher: {"weight": weight, "temperature": temperature, "log_prior": nothing, "dropped": False}
            for teacher, weight, temperature in zip(teachers, weights, temperatures, strict=True)
        },
        "label_bias": nothing,
    }
    if settings.calibration != "none":
        for member, log_prior in zip(ensemble["teachers"].values(), _log_priors(store, ensemble), strict=True):
            member["log_prior"] = _by_label(labels, log_prior)
    if settings.drop_collapsed:
        ensemble = _without_collapsed(job, ensemble)
    if settings.prior != "none":
        ensemble["label_bias"] = _label_bias(job, task, ensemble)
    return ensemble


def teacher_shards(store: RunStore, teachers: Sequence[str]) -> Iterator[FloatArray]:
    """Yield the teachers' raw logits on the unlabelled set shard by shard, shape ``(teachers, rows, labels)``."""
    readers = [read_shards(store.path(teacher_logits(teacher)), ["logits"]) for teacher in teachers]
    for shards in zip(*readers, strict=True):
        yield np.stack([shard["logits"] for shard in shards])


def combined_shards(store: RunStore, ensemble: dict[str, Any]) -> Iterator[FloatArray]:
    """Yield the ensemble's logits on the unlabelled set shard by shard, shape ``(rows, labels)``."""
    return (combine_teachers(logits, ensemble) for logits in teacher_shards(store, list(ensemble["teachers"])))


def refuse_other_rows(store: RunStore, task: Task, made: Sequence[str], part: str) -> None:
    """Refuse logits of other rows or labels: beside this data they would stand for the wrong texts.

    Args:
        made: the steps that hold the logits, each ``stage_a/<teacher>/…``.
        part: ``unlabeled`` or ``train``, the rows they should be of.

    Raises:
        IncompleteRun: with what changed.
    """
    expected: Inputs = {"labels": list(task.labels), f"data.{part}": task.scans[part].sha256}
    for step in made:
        made_for = {name: store.inputs(step).get(name) for name in expected}
        if made_for != dict(expected):
            _, teacher, which = step.split("/")
            named = "logits" if which == "logits" else "out-of-fold logits"
            changed = changes(made_for, expected)
            raise IncompleteRun(
                f"{store.shown}: the {named} of teacher {teacher} are out of date: {changed} (run petkit stage-a --force)"
            )


def untrained_accuracies(store: RunStore, teachers: Sequence[str]) -> list[float]:
    """Return each teacher's accuracy on the few-shot examples before it was trained."""
    paths = [store.path(teacher_model(teacher)) / TEACHER_FILE for teacher in teachers]
    return [float(json.loads(path.read_text(encoding="utf-8"))["untrained_accuracy"]) for path in paths]


def _gold(task: Task) -> NDArray[np.int64]:
    """Return the right answers for the few-shot examples, shape ``(rows, questions)``."""
    targets = np.asarray(task.targets(), np.int64)  # (rows,), or (rows, labels) of 0 and 1
    return targets if targets.ndim == 2 else targets[:, None]


def _log_priors(store: RunStore, ensemble: dict[str, Any]) -> list[FloatArray]:
    """Return what each teacher answers whatever the text says, as the log-prior of the labels, each of shape ``(labels,)``.

    ``contextual``: on texts without content; ``batch``: on the unlabelled rows, as ``petkit.ensemble.calibration.batch_prior``
    has it, but shard by shard. Both at the teacher's temperature.
    """
    labels, multi, found = len(ensemble["labels"]), is_multi(ensemble), []
    for teacher, member in ensemble["teachers"].items():
        if ensemble["calibration"] == "contextual":
            log_prior: FloatArray = contextual_prior(_content_free(store, teacher) / member["temperature"], multi=multi)
        else:
            shards = partial(_tempered_shards, store, teacher, member["temperature"])
            bias, _ = match_prior(shards, np.full(labels, 1 / labels))
            log_prior = (-bias - np.logaddexp.reduce(-bias)).astype(np.float32)
        found.append(log_prior)
    return found


def _tempered_shards(store: RunStore, teacher: str, temperature: float) -> Iterator[FloatArray]:
    return (shard["logits"] / temperature for shard in read_shards(store.path(teacher_logits(teacher)), ["logits"]))


def _content_free(store: RunStore, teacher: str) -> FloatArray:
    path = store.path(teacher_logits(teacher)) / CONTENT_FREE_FILE
    if not path.is_file():
        raise IncompleteRun(f"{store.shown}: teacher {teacher} was not asked about empty texts (run petkit stage-a --force)")
    return np.array(json.loads(path.read_text(encoding="utf-8"))["logits"], np.float32)


def _without_collapsed(job: Job, ensemble: dict[str, Any]) -> dict[str, Any]:
    """Return the ensemble without the teachers that give (nearly) every row one label, and tell who they are."""
    consensus = Consensus(ensemble)
    for logits in teacher_shards(job.store, consensus.names):
        consensus.add(logits, combine_teachers(logits, ensemble))
    collapsed = consensus.collapsed()
    rest = leave_out(ensemble, collapsed)
    if rest is None:
        job.on_event(Notice(job.step, "every teacher gives (nearly) all rows one label of its own; none is left out"))
        return ensemble
    for teacher, share in collapsed.items():
        job.on_event(Notice(job.step, f"teacher {teacher} is left out: it gives {share:.0%} of the rows the same label"))
    return rest


def _label_bias(job: Job, task: Task, ensemble: dict[str, Any]) -> dict[str, float]:
    """Return the bias of each label under which the mean soft label is the prior."""
    prior = task.spec.soft_labels.prior
    assert prior != "none"
    shares = prior_shares(prior, task.labels, [example.label for example in task.train if example.label is not None])
    bias, distance = match_prior(lambda: combined_shards(job.store, ensemble), shares)
    if distance > TOLERANCE:
        job.on_event(Notice(job.step, f"the soft labels meet their prior only to within {distance:.4f}"))
    return _by_label(ensemble["labels"], bias)


def _by_label(labels: Sequence[str], values: Sequence[float] | NDArray[Any]) -> dict[str, float]:
    return {label: round(float(value), 6) for label, value in zip(labels, values, strict=True)}
