"""What one would have without petkit's method: other classifiers on the same few-shot rows and the same test rows.

Each is a step of its own, so that asking for one more runs one more. Nothing is chosen on the test set: settings are
fixed, or cross-validated within the few-shot rows. :func:`read_results` says at the end whether the method was worth it.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.baselines.base import METHODS, student_settings
from petkit.baselines.setfit import is_installed
from petkit.data.examples import targets_of
from petkit.engine.device import Device
from petkit.errors import InvalidInput
from petkit.metrics.comparison import compare, verdict
from petkit.metrics.decision import Decision
from petkit.metrics.metrics import evaluate
from petkit.runs.fingerprint import Inputs, flat
from petkit.runs.inputs import demonstration_inputs, label_words, model_inputs, verbalizer_inputs
from petkit.runs.layout import BASELINE_FILE, EVALUATION, baseline
from petkit.runs.step import Job, Step
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import read_shards, write_shard
from petkit.task.task import Task


def refuse_impossible(task: Task) -> None:
    """Refuse a baseline that would fail only after the teachers are trained.

    Raises:
        InvalidInput: its package is missing.
    """
    if "setfit" in _asked(task) and not is_installed():
        why, hint = "setfit is not installed", "pip install 'petkit[setfit]'"
        raise InvalidInput([task.pipeline.problem(("baselines",), why, hint)])


def steps(task: Task, device: Device) -> list[Step]:
    """Return a step for every baseline that was asked for; none where there is no test set."""
    return [
        Step(baseline(name), "evaluation", _inputs(name, task, device), partial(_run, name, task, device))
        for name in _asked(task)
    ]


def read_results(store: RunStore, task: Task) -> dict[str, Any]:
    """Return what the baselines add to the metrics of a finished evaluation: their own, and the verdict on the student."""
    names = _asked(task)
    if not names:
        return {}
    student = _right(store.path(EVALUATION), "student")
    comparisons, results = {}, {}
    for name in names:
        folder = store.path(baseline(name))
        comparisons[name] = compare(student, _right(folder, "label"))
        results[name] = {
            **json.loads((folder / BASELINE_FILE).read_text(encoding="utf-8")),
            "seconds": store.facts(baseline(name))["seconds"],
            "difference": comparisons[name].difference,
            "difference_interval": comparisons[name].interval,
        }
    return {"baselines": results, "verdict": verdict(comparisons)}


def _asked(task: Task) -> list[str]:
    return [] if task.spec.data.test is None else list(dict.fromkeys(task.spec.baselines))


def _inputs(name: str, task: Task, device: Device) -> Inputs:
    """Return what the result of a baseline depends on."""
    spec = task.spec
    inputs: dict[str, Any] = {
        "step.version": 2,
        "labels": list(task.labels),
        "label_kind": spec.label_kind,
        "fields": list(task.fields),
        "data.test": task.scans["test"].sha256,
    }
    if name != "zero_shot":
        inputs["data.train"] = task.scans["train"].sha256
    if name == "supervised":
        inputs |= {
            **task.common_inputs(device),
            **model_inputs(task.student_model_hash, task.student_max_length),
            **flat("student", student_settings(task)),
            **task.start_inputs["student"],
        }
    elif name == "setfit":
        inputs |= {**model_inputs(task.model_hash, task.max_length), "student.seed": spec.student.seed}
    elif name == "zero_shot":
        inputs |= {**task.common_inputs(device), **task.unlabeled_inputs(), **_asked_untrained(task)}
    return inputs


def _asked_untrained(task: Task) -> dict[str, Any]:
    """Return what the untrained model is asked, pattern by pattern."""
    spec = task.spec
    inputs: dict[str, Any] = {**model_inputs(task.model_hash, task.max_length), "combine": spec.soft_labels.combine}
    for pattern, pvp in zip(spec.patterns, task.pvps, strict=True):
        inputs[f"pattern.{pvp.id}"] = list(pattern.segments)
        inputs[f"verbalizer.{pvp.id}"] = label_words(pvp.verbalizer.labels)
    inputs |= verbalizer_inputs(spec.verbalizer)
    if spec.demonstrations.per_label:
        inputs |= {**demonstration_inputs(spec.demonstrations), "data.train": task.scans["train"].sha256}
    return inputs


def _run(name: str, task: Task, device: Device, job: Job) -> None:
    """Answer the test rows and write the answers with their figures."""
    logits, settings = METHODS[name](task, device, job)
    examples = list(task.rows("test"))
    targets = targets_of(examples, len(task.labels))  # (rows, labels)
    decision = Decision(task.spec.label_kind)
    metrics = evaluate(logits, targets, task.labels, decision)
    write_json(job.folder / BASELINE_FILE, {"settings": settings, "metrics": metrics.to_dict()})
    columns = {
        "id": [example.id for example in examples],
        "gold": decision.named(targets > 0, task.labels),
        "label": decision.named(decision.chosen(logits), task.labels),
        "logits": logits,
    }
    write_shard(job.folder / "predictions", 0, columns)
    job.facts.update(accuracy=metrics.accuracy)


def _right(folder: Path, column: str) -> NDArray[np.bool_]:
    """Return whether each row of a step's predictions was labelled rightly, shape ``(rows,)``."""
    shards = read_shards(folder / "predictions", ["gold", column])
    return np.array([gold == given for shard in shards for gold, given in zip(shard["gold"], shard[column], strict=True)])
