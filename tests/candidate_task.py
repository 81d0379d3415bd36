"""A task whose rows have candidates of their own, as small as the one of :mod:`tests.tiny_task`: which word goes with the text?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.tiny_task import FILLERS, TOPICS, write_rows

ANSWERS = {"Sports": "football team", "Science": "science", "World": "world news"}
PATTERNS = {"colon": "{mask} : {text}", "brackets": "{text} ( {mask} )"}


def rows(count: int, seed: int, *, listed: bool = True) -> list[dict[str, Any]]:
    """Return labelled rows with two or three candidates (as columns: two), the right one at any place."""
    random = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for index in range(count):
        topic = list(TOPICS)[index % len(TOPICS)]
        words = [*random.choice(FILLERS, random.integers(1, 6)), *random.choice(TOPICS[topic].split(), 2)]
        others = [answer for name, answer in ANSWERS.items() if name != topic][: 1 + index % 2 if listed else 1]
        options = [str(entry) for entry in random.permutation([ANSWERS[topic], *others])]
        row: dict[str, Any] = {"id": f"{seed}-{index}", "text": " ".join(random.permutation(words))}
        row |= {"options": options} if listed else {"first": options[0], "second": options[1]}
        made.append({**row, "label": options.index(ANSWERS[topic])})
    return made


def write_task(folder: Path, model: Path, *, listed: bool = True, patterns: Mapping[str, Any] = PATTERNS) -> Path:
    """Write data and a pipeline file; return the pipeline's path."""
    folder.mkdir(exist_ok=True)
    for name, count in (("train", 36), ("unlabeled", 60), ("test", 30)):
        write_rows(folder / f"{name}.jsonl", rows(count, count, listed=listed))
    pipeline = {
        "task": "answers",
        "data": {name: f"{name}.jsonl" for name in ("train", "unlabeled", "test")},
        "patterns": [{"id": name, "text": text} for name, text in patterns.items()],
        "candidates": "options" if listed else ["first", "second"],
        "model": str(model),
        "max_length": 32,
        "teachers": {"steps": 80, "stop_loss": 0, "batch_size": 12, "learning_rate": 0.003},
        "soft_labels": {"temperature": 1},
        "student": {"steps": 120, "batch_size": 12, "learning_rate": 0.005},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return folder / "pipeline.yaml"
