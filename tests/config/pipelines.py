"""A small sound pipeline, written to disk file by file, so that tests can break one thing at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from petkit.config.loader import load_pipeline
from petkit.config.schema.pipeline import PipelineSpec
from petkit.errors import InvalidInput

PIPELINE = """\
task: news
data:
  train: data/train.jsonl
  unlabeled: data/unlabeled.jsonl
patterns: ../patterns/topic.yaml
verbalizer: ../verbalizers/news.yaml
teachers:
  seeds: [1, 2]
  learning_rate: 1e-5
"""
PATTERNS = """\
patterns:
  - id: topic-colon
    text: "{mask}: {text}"
  - id: news-pair
    text: ["{mask} news:", "{text}"]
"""
VERBALIZER = """\
labels:
  World: [world]
  Sports: [sports, football]
"""


def write(folder: Path, pipeline: str = PIPELINE, patterns: str | None = PATTERNS, verbalizer: str | None = VERBALIZER) -> Path:
    """Write the three files below ``folder`` and return the pipeline's path; None leaves a file out."""
    files = {"pipelines/news.yaml": pipeline, "patterns/topic.yaml": patterns, "verbalizers/news.yaml": verbalizer}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if text is not None:
            path.write_text(text, encoding="utf-8")
    return folder / "pipelines/news.yaml"


def with_lines(*lines: str) -> str:
    """Return the sound pipeline with ``lines`` at its end; the first of them is line 10."""
    return PIPELINE + "".join(f"{line}\n" for line in lines)


def loaded(path: Path, *overrides: str) -> PipelineSpec:
    """Load a sound pipeline."""
    return load_pipeline(path, overrides).spec


def mistakes(path: Path, *overrides: str) -> list[str]:
    """Load a broken pipeline and return the lines of the report."""
    with pytest.raises(InvalidInput) as caught:
        load_pipeline(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()
