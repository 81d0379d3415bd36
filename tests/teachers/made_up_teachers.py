"""Stage B on teachers whose logits are made up: writing them into a run, labelling with them, reading what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petkit.ensemble import log_softmax
from petkit.events import Event, Notice
from petkit.runs.layout import CONTENT_FREE_FILE, teacher_folds, teacher_logits
from petkit.runs.store import RunStore
from petkit.storage.atomic import write_json
from petkit.storage.parquet_shards import read_shards, write_shard
from petkit.task.task import Task
from tests.tiny_task import load, run_task

NAMES = ("colon-1", "colon-2", "brackets-1", "brackets-2")
LABELS = ("Sports", "Science", "World")
GOLD = np.arange(9) % 3  # the labels of the few-shot examples


def made_up(seed: int = 0, rows: int = 30) -> np.ndarray:
    """Return logits of the four teachers, shape ``(teachers, rows, labels)``: noise around the true label, and a preference."""
    random = np.random.default_rng(seed)
    truth = 2 * np.eye(3)[np.arange(rows) % 3]
    return (truth + random.standard_normal((4, rows, 3)) + 2 * random.standard_normal((4, 1, 3))).astype(np.float32)


def publish(run: Path, logits: np.ndarray, *, cuts: Sequence[int] = (), empty: np.ndarray | None = None) -> np.ndarray:
    """Replace what the teachers say of the unlabelled rows (and of empty texts), as if stage A had."""
    store = RunStore(run)
    with store.locked():
        for name, own, content_free in zip(NAMES, logits, made_up(9, 3) if empty is None else empty, strict=True):
            step = teacher_logits(name)
            with store.publishing(step, store.inputs(step), {}) as folder:
                for index, block in enumerate(np.split(own, cuts)):
                    write_shard(folder, index, {"logits": block})
                write_json(folder / CONTENT_FREE_FILE, {"logits": content_free.tolist()})
    return logits


def publish_folds(run: Path, pipeline_file: Path, logits: np.ndarray, **other: Any) -> np.ndarray:
    """Write what the teachers say of the labelled rows they were not trained on."""
    store, task = RunStore(run), Task.checked(load(pipeline_file))
    inputs = {"labels": list(task.labels), "data.train": task.scans["train"].sha256, **other}
    with store.locked():
        for name, own in zip(NAMES, logits, strict=True):
            with store.publishing(teacher_folds(name), inputs, {}) as folder:
                write_shard(folder, 0, {"logits": own})
    return logits


def label(pipeline_file: Path, run: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Run stage B on what was made up; return ``ensemble.json``, the columns of all rows and what was reported."""
    heard: list[Event] = []
    run_task(pipeline_file, run, *overrides, stages=("b",), force="b", on_event=heard.append, allow_stale=True)
    ensemble = json.loads((run / "stage_b" / "ensemble.json").read_text())
    names = ["id", "logits", "label", "entropy", "agreement", "weight"]
    shards = list(read_shards(run / "stage_b" / "soft_labels", names))
    columns = {name: np.concatenate([np.asarray(shard[name]) for shard in shards]) for name in names}
    return ensemble, columns, [event.message for event in heard if isinstance(event, Notice) and event.step == "stage_b"]


def soft(logits: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(logits.astype(np.float64)))  # type: ignore[arg-type]


def right(*counts: int) -> np.ndarray:
    """Return logits of the labelled rows; teacher k is right on the first ``counts[k]`` of nine."""
    said = [np.where(np.arange(9) < count, GOLD, (GOLD + 1) % 3) for count in counts]
    return (3 * np.eye(3)[np.array(said)]).astype(np.float32)
