"""A tiny project on disk: two labels, two patterns, a random model of two layers; a run takes about a second."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PIPELINE = """\
task: tiny
data:
  train: train.jsonl
  unlabeled: unlabeled.jsonl
  test: test.jsonl
patterns: patterns.yaml
verbalizer: verbalizer.yaml
model: {model}
max_length: 32
teachers: {{seeds: [1], steps: 2, batch_size: 4}}
student: {{steps: 2, batch_size: 4}}
compute: {{device: cpu, precision: float32, threads: 1}}
"""
PATTERNS = """\
patterns:
  - id: colon
    text: "{mask}: {text}"
  - id: brackets
    text: "[ category: {mask} ] {text}"
"""
VERBALIZER = """\
labels:
  World: [world]
  Sports: [sports, football]
"""
TRAIN = (
    ("the news of the world", "World"),
    ("business is bad", "World"),
    ("a great game of football", "Sports"),
    ("the team was good", "Sports"),
)
UNLABELED = ("the market", "a very good game", "all the science", "this question", "the answer is no")
TEST = (("the world is bad", "World"), ("a terrible team", "Sports"), ("it was a great game", "Sports"))


def write(folder: Path, model: Path, files: Mapping[str, str | bytes | None] | None = None) -> Path:
    """Write the project into ``folder``; ``files`` replaces files by name, None leaves one out. Returns the pipeline."""
    content: dict[str, str | bytes | None] = {
        "pipeline.yaml": PIPELINE.format(model=model),
        "patterns.yaml": PATTERNS,
        "verbalizer.yaml": VERBALIZER,
        "train.jsonl": json_lines({"text": text, "label": label} for text, label in TRAIN),
        "unlabeled.jsonl": json_lines({"text": text} for text in UNLABELED),
        "test.jsonl": json_lines({"text": text, "label": label} for text, label in TEST),
        **(files or {}),
    }
    for name, value in content.items():
        if value is None:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else value.encode())
    return folder / "pipeline.yaml"


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file and folder below ``folder`` with its size and time of change.

    That of a lock means nothing: filelock touches it or not, as its version does.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        size = path.stat().st_size if path.is_file() else -1
        found[path.relative_to(folder).as_posix()] = (size, 0 if path.name == ".lock" else path.stat().st_mtime_ns)
    return found
