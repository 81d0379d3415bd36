"""A task small enough to run A → B → C → evaluation in about a second: three topics reported by single words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from petkit.config.loader import Pipeline, load_pipeline
from petkit.events import OnEvent, ignore
from petkit.runs.planning import PlannedStep, plan
from petkit.runs.store import RunStore
from petkit.stages.pipeline import RunResult, all_steps, device_of, prepare, run
from petkit.task.task import Task

TOPICS = {"Sports": "game team", "Science": "question answer", "World": "market news"}
FILLERS = ("the", "was", "very", "good", "it", "is", "not", "this", "all")
LABEL_WORDS = {"Sports": ["sports", "football"], "Science": ["science"], "World": ["world"]}
ONE_FIELD = {"colon": "{mask} news: {text}", "brackets": "( {mask} ) {text}"}
STEPS = (
    *(f"stage_a/{name}-{seed}/{part}" for name in ONE_FIELD for seed in (1, 2) for part in ("model", "logits")),
    "stage_b",
    "stage_c/model",
    "evaluation",
)


def rows(count: int, seed: int, fields: Sequence[str] = ("text",)) -> list[dict[str, str]]:
    """Return labelled rows, the labels in turn; texts of three to seven words, two of which tell the label."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        label = list(TOPICS)[index % len(TOPICS)]
        words = [[*random.choice(FILLERS, random.integers(1, 6)), *random.choice(TOPICS[label].split(), 2)] for _ in fields]
        made.append({field: " ".join(random.permutation(text)) for field, text in zip(fields, words, strict=True)})
        made[-1] |= {"label": label, "id": f"{seed}-{index}"}
    return made


def write_rows(path: Path, records: Sequence[Mapping[str, str]]) -> None:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_task(folder: Path, model: Path, fields: Sequence[str] = ("text",), patterns: Mapping[str, Any] = ONE_FIELD) -> Path:
    """Write data and a pipeline file; return the pipeline's path."""
    folder.mkdir(exist_ok=True)
    for name, count in (("train", 9), ("unlabeled", 30), ("test", 15)):
        write_rows(folder / f"{name}.jsonl", rows(count, count, fields))
    pipeline = {
        "task": "topics",
        "data": {name: f"{name}.jsonl" for name in ("train", "unlabeled", "test")},
        "patterns": [{"id": name, "text": text} for name, text in patterns.items()],
        "verbalizer": {"labels": LABEL_WORDS},
        "model": str(model),
        "max_length": 32,
        "teachers": {"seeds": [1, 2], "steps": 40, "stop_loss": 0, "batch_size": 4, "learning_rate": 0.005},
        "student": {"steps": 40, "batch_size": 6, "learning_rate": 0.005, "hard_weight": 0.2},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return folder / "pipeline.yaml"


def load(path: Path, *overrides: str) -> Pipeline:
    """Load the task's pipeline; ``overrides`` are ``key.path=value``."""
    return load_pipeline(path, overrides)


def run_task(path: Path, folder: Path, *overrides: str, on_event: OnEvent = ignore, **options: Any) -> RunResult:
    """Run the task's pipeline into ``folder``."""
    return run(prepare(load(path, *overrides), folder, **options), on_event)


def planned(path: Path, folder: Path, *overrides: str, force: str | None = None) -> dict[str, PlannedStep]:
    """Return the plan by step name."""
    task, store = Task.checked(load(path, *overrides)), RunStore(folder)
    return {entry.step: entry for entry in plan(all_steps(task, device_of(task, store)), store, force)}


def products(folder: Path, *parts: str) -> dict[str, bytes]:
    """Return every file the steps made but the records of when and where (``step.json``)."""
    tops = parts or ("stage_a", "stage_b", "stage_c", "evaluation")
    paths = [path for top in tops for path in sorted((folder / top).rglob("*")) if path.is_file() and path.name != "step.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def student_weights(folder: Path) -> bytes:
    """Return the student's weights as they lie on disk."""
    return (folder / "stage_c" / "model" / "model.safetensors").read_bytes()
