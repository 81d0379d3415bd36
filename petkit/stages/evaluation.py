"""The test set, looked at once, at the end: every pattern untrained, every teacher, the ensemble, the student.

Nothing here feeds back into any stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from petkit.insight.metrics import evaluate_logits
from petkit.lm.arithmetic import Arithmetic, prepare_for_inference, release_memory
from petkit.lm.backbone import load_classifier
from petkit.lm.ensemble import FloatArray, combine, log_softmax
from petkit.lm.inference import ClassifierLogits, label_logits
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import ENSEMBLE_FILE, EVALUATION, METRICS_FILE, SOFT_LABELS, STUDENT, teacher_model
from petkit.runs.shards import SHARD_ROWS, write_shard
from petkit.runs.store import RunStore, write_json
from petkit.stages.scoring import load_scorer, shard_logits
from petkit.stages.step import Job, Step
from petkit.stages.workload import Workload


def steps(work: Workload, arithmetic: Arithmetic) -> list[Step]:
    """Return the evaluation step, or nothing where there is no test set."""
    if work.spec.data.test is None:
        return []
    inputs: Inputs = {
        "step.version": 1,
        "labels": list(work.labels),
        "data.test": work.scans["test"].sha256,
        "model": work.model_hash,
        "precision": arithmetic.precision,
    }
    teachers = tuple(teacher_model(name) for name, _, _ in work.teacher_names)
    return [
        Step(EVALUATION, "evaluation", inputs, lambda job: _evaluate(job, work, arithmetic), (*teachers, SOFT_LABELS, STUDENT))
    ]


def _evaluate(job: Job, work: Workload, arithmetic: Arithmetic) -> None:
    examples = list(work.rows("test"))
    gold = np.array([example.label for example in examples], np.int64)
    ensemble = json.loads((job.store.path(SOFT_LABELS) / ENSEMBLE_FILE).read_text(encoding="utf-8"))
    rounds = len(work.pvps) + len(work.teacher_names) + 1
    finished = 0

    def score_teacher(model: str, index: int, note: str) -> FloatArray:
        nonlocal finished
        pvp = work.pvps[index]
        scorer = load_scorer(model, pvp, arithmetic)
        total, base = rounds * len(gold), finished * len(gold)
        shards = shard_logits(scorer, pvp, work, "test", arithmetic, lambda done: job.progress(base + done, total, "rows", note))
        logits = np.concatenate(list(shards))
        finished += 1
        del scorer, shards
        release_memory()
        return logits

    untrained = [score_teacher(work.spec.model, index, f"{pvp.id}, untrained") for index, pvp in enumerate(work.pvps)]
    teachers = {
        name: score_teacher(str(job.store.path(teacher_model(name))), index, name) for name, index, _ in work.teacher_names
    }
    weights = np.array([ensemble["weights"][name] for name in teachers], np.float32)
    before = [untrained[index] for _, index, _ in work.teacher_names]
    combined = combine(np.stack(list(teachers.values())), weights, ensemble["combine"])
    base = finished * len(gold)
    student = _student_logits(
        job, work, arithmetic, lambda done: job.progress(base + done, rounds * len(gold), "rows", "student")
    )
    metrics: dict[str, Any] = {
        "rows": len(gold),
        "teachers": {
            name: {"untrained_accuracy": _accuracy(untrained[index], gold), "accuracy": _accuracy(teachers[name], gold)}
            for name, index, _ in work.teacher_names
        },
        "untrained_ensemble": {"accuracy": _accuracy(combine(np.stack(before), weights, ensemble["combine"]), gold)},
        "ensemble": evaluate_logits(combined, gold, work.labels).to_dict(),
        "student": evaluate_logits(student, gold, work.labels).to_dict(),
    }
    write_json(job.folder / METRICS_FILE, metrics)
    columns = {
        "id": [example.id for example in examples],
        "gold": [work.labels[label] for label in gold],
        "student": [work.labels[label] for label in student.argmax(1)],
        "ensemble": [work.labels[label] for label in combined.argmax(1)],
        "probabilities": np.exp(log_softmax(student)),
    }
    write_shard(job.folder / "predictions", 0, columns)
    job.facts.update(student_accuracy=metrics["student"]["accuracy"], ensemble_accuracy=metrics["ensemble"]["accuracy"])


def _student_logits(job: Job, work: Workload, arithmetic: Arithmetic, on_rows: Callable[[int], None]) -> FloatArray:
    student = ClassifierLogits(load_classifier(str(job.store.path(STUDENT))))
    prepare_for_inference(student, arithmetic)
    store = work.tokens("test", student=True)
    blocks = []
    for start in range(0, store.rows, SHARD_ROWS):
        rows = [work.student_pattern.encode(store.row(index)) for index in range(start, min(start + SHARD_ROWS, store.rows))]
        blocks.append(label_logits(student, rows, work.student_tokenizer, arithmetic, work.spec.compute.tokens_per_batch))
        on_rows(start + len(rows))
    return np.concatenate(blocks)


def _accuracy(logits: FloatArray, gold: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == gold).mean())


def read_metrics(store: RunStore) -> dict[str, Any] | None:
    """Return the metrics of a finished evaluation, or None."""
    if store.content(EVALUATION) is None:
        return None
    metrics: dict[str, Any] = json.loads((store.path(EVALUATION) / METRICS_FILE).read_text(encoding="utf-8"))
    return metrics
