"""Stage B: the teachers label the unlabelled text together (PET, section 3.3).

Reads every teacher's logits shard by shard and writes the ensemble's: label logits, never
probabilities, because small probabilities would be lost in rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from petkit.errors import IncompleteRun
from petkit.events import Notice
from petkit.lm.ensemble import FloatArray, agreement, combine, entropy, log_softmax, teacher_weights
from petkit.runs.fingerprint import Inputs, changes
from petkit.runs.layout import AGREEMENT_FILE, ENSEMBLE_FILE, SOFT_LABELS, TEACHER_FILE, teacher_logits, teacher_model
from petkit.runs.shards import read_shards, write_shard
from petkit.runs.store import RunStore, write_json
from petkit.stages.step import Job, Step
from petkit.stages.workload import Workload


def steps(work: Workload) -> list[Step]:
    """Return the one step of this stage; it needs every teacher, and a missing one is an error."""
    teachers = [name for name, _, _ in work.teacher_names]
    inputs: Inputs = {
        "step.version": 1,
        **work.unlabeled_inputs(),
        **{f"soft_labels.{name}": value for name, value in work.spec.soft_labels.model_dump().items()},
    }
    needs = [teacher_logits(teacher) for teacher in teachers]
    if work.spec.soft_labels.weighting == "train_accuracy":
        needs += [teacher_model(teacher) for teacher in teachers]
    return [Step(SOFT_LABELS, "b", inputs, lambda job: _label(job, work, teachers), tuple(needs))]


def untrained_accuracies(store: RunStore, teachers: list[str]) -> list[float]:
    """Return each teacher's accuracy on the few-shot examples before it was trained."""
    paths = [store.path(teacher_model(teacher)) / TEACHER_FILE for teacher in teachers]
    return [float(json.loads(path.read_text(encoding="utf-8"))["untrained_accuracy"]) for path in paths]


def _refuse_other_rows(store: RunStore, work: Workload, teachers: list[str]) -> None:
    """Refuse logits of other rows or labels: beside this unlabelled set they would label the wrong texts.

    Raises:
        IncompleteRun: with what changed.
    """
    expected = work.unlabeled_inputs()
    for teacher in teachers:
        made_for = {name: store.inputs(teacher_logits(teacher)).get(name) for name in expected}
        if made_for != dict(expected):
            changed = changes(made_for, expected)
            raise IncompleteRun(
                f"{store.shown}: the logits of teacher {teacher} are out of date: {changed} (run petkit stage-a --force)"
            )


def _label(job: Job, work: Workload, teachers: list[str]) -> None:
    _refuse_other_rows(job.store, work, teachers)
    settings, labels, total = work.spec.soft_labels, work.labels, work.scans["unlabeled"].rows
    uniform = settings.weighting == "uniform"
    accuracies = [1.0] * len(teachers) if uniform else untrained_accuracies(job.store, teachers)
    weights = teacher_weights(accuracies, settings.weighting)
    # How often each pair of teachers gives the same label, and how often each label wins.
    same = np.zeros((len(teachers), len(teachers)), np.int64)
    won = np.zeros(len(labels), np.int64)
    entropy_sum = agreement_sum = 0.0
    ids = (example.id for example in work.rows("unlabeled"))
    done = 0
    for index, logits in enumerate(_teacher_shards(job.store, teachers)):  # (teachers, rows, labels)
        combined = combine(logits, weights, settings.combine)  # (rows, labels)
        soft = log_softmax(combined, settings.temperature)
        row_entropy, row_agreement = entropy(soft), agreement(logits, combined)
        choices = logits.argmax(-1)  # (teachers, rows)
        same += (choices[:, None] == choices[None]).sum(-1)
        winners = combined.argmax(-1)
        won += np.bincount(winners, minlength=len(labels))
        entropy_sum += float(row_entropy.sum(dtype=np.float64))
        agreement_sum += float(row_agreement.sum(dtype=np.float64))
        columns = {
            "id": list(islice(ids, len(combined))),
            "logits": combined,
            "label": [labels[winner] for winner in winners],
            "entropy": row_entropy,
            "agreement": row_agreement,
        }
        write_shard(job.folder / "soft_labels", index, columns)
        done += len(combined)
        job.progress(done, total, "rows")
    for _ in ids:  # to the end, where the rows prove to be those of the check
        pass
    share = weights / weights.sum()
    description: dict[str, Any] = {
        "labels": labels,
        "rows": done,
        "data.unlabeled": work.scans["unlabeled"].sha256,
        **settings.model_dump(),
        "weights": {teacher: round(float(weight), 6) for teacher, weight in zip(teachers, share, strict=True)},
        "mean_entropy": entropy_sum / done,
        "mean_agreement": agreement_sum / done,
        "label_counts": {label: int(count) for label, count in zip(labels, won, strict=True)},
    }
    write_json(job.folder / ENSEMBLE_FILE, description)
    pairs = {
        teacher: dict(zip(teachers, (row / done).tolist(), strict=True)) for teacher, row in zip(teachers, same, strict=True)
    }
    write_json(job.folder / AGREEMENT_FILE, pairs)
    for label, count in description["label_counts"].items():
        if count == 0:
            job.listen(
                Notice(job.step, f"the teachers give no unlabelled row the label {label!r}; look at its label words and examples")
            )
    job.facts.update(rows=done, mean_entropy=description["mean_entropy"], mean_agreement=description["mean_agreement"])


def _teacher_shards(store: RunStore, teachers: list[str]) -> Iterator[FloatArray]:
    """Yield the teachers' logits shard by shard, shape ``(teachers, rows, labels)``."""
    readers = [read_shards(store.path(teacher_logits(teacher)), ["logits"]) for teacher in teachers]
    for shards in zip(*readers, strict=True):
        yield np.stack([shard["logits"] for shard in shards])
