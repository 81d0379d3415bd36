"""Baselines as steps: other classifiers from the same labelled rows, on the same test rows.

Each is a step of its own, so that adding one runs that one. Nothing is chosen on the test set: settings are
fixed, or cross-validated within the labelled rows. :func:`read_results` adds the verdict on the student.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petkit.baselines import BASELINES
from petkit.config.loader import Pipeline
from petkit.config.registry import BASELINE_NAMES
from petkit.config.schema.pipeline import PipelineSpec
from petkit.data.examples import targets_of
from petkit.engine.device import Device
from petkit.errors import InvalidInput
from petkit.metrics import Decision, compare, evaluate, verdict
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import BASELINE_FILE, EVALUATION, baseline
from petkit.runs.step import Job, Step
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import read_shards, write_shard
from petkit.task.task import Task


def refuse_impossible(pipeline: Pipeline) -> None:
    """Refuse a baseline whose package is missing: it would fail only after the teachers are trained."""
    for name in _named(pipeline.spec):
        package = BASELINES[name].package
        if package and find_spec(package) is None:
            wanted = f"'petkit[{package}]'" if name in BASELINE_NAMES.built_in else package
            why, hint = f"{package} is not installed", f"pip install {wanted}"
            raise InvalidInput([pipeline.problem(("baselines",), why, hint)])


def steps(task: Task, device: Device) -> list[Step]:
    """Return a step for every baseline of the pipeline; none without a test set."""
    if not (names := _named(task.spec)):
        return []
    shared: Inputs = {
        "step.version": 3,
        "labels": list(task.labels),
        "label_kind": task.spec.label_kind,
        "fields": list(task.fields),
        "data.test": task.scans["test"].sha256,
    }
    inputs: dict[str, Inputs] = {name: {**shared, **BASELINES[name].inputs(task, device)} for name in names}
    return [Step(baseline(name), "evaluation", inputs[name], partial(_run, name, task, device)) for name in names]


def read_results(store: RunStore, task: Task) -> dict[str, Any]:
    """Return the metrics of the baselines and the verdict on the student, which extend those of a finished evaluation."""
    if not (names := _named(task.spec)):
        return {}
    student, groups = _right(store.path(EVALUATION), "student"), task.scans["test"].groups
    comparisons, results = {}, {}
    for name in names:
        step = baseline(name)
        comparisons[name] = compare(student, _right(store.path(step), "label"), groups)
        results[name] = {
            **store.read(step, BASELINE_FILE),
            "seconds": store.facts(step)["seconds"],
            "difference": comparisons[name].difference,
            "difference_interval": comparisons[name].interval,
        }
    return {"baselines": results, "verdict": verdict(comparisons)}


def _named(spec: PipelineSpec) -> list[str]:
    return [] if spec.data.test is None else list(dict.fromkeys(spec.baselines))


def _run(name: str, task: Task, device: Device, job: Job) -> None:
    """Score the test rows and write the labels with their metrics."""
    logits, settings = BASELINES[name].answer(task, device, job)
    examples = list(task.rows("test"))
    targets = targets_of(examples, len(task.labels))  # (rows, labels)
    decision = Decision(task.label_kind)
    metrics = evaluate(logits, targets, task.labels, decision, task.scans["test"].groups)
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
