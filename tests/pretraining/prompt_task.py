"""Texts of several sentences without labels, and a pipeline to pre-train a prompt on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from petkit.events import Event, Progress
from petkit.models.loading import load_masked_lm, load_tokenizer
from petkit.pretraining.pretrain_prompt import PretrainedPrompt, pretrain_prompt
from tests.tiny_task import FILLERS, LABEL_WORDS, TOPICS, load, write_rows

TOKENS = 4
# The tiny models know no "maybe".
SETTINGS: dict[str, Any] = {
    "words": {"same_text": "very"},
    "tokens": TOKENS,
    "steps": 10,
    "batch_size": 8,
    "dropout": 0.1,
    "learning_rate": 0.05,
}


TOP = ("model=", "max_length=", "patterns=")


class Killed(Exception):
    """Stands for the end of the process."""


def wide_awake(source: Path, folder: Path) -> Path:
    """Save a copy of a tiny model whose tokens mind each other; as it comes, it hardly sees a prompt."""
    model = load_masked_lm(str(source))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(15 if parameter.ndim >= 2 else 1)
    model.save_pretrained(folder)
    load_tokenizer(str(source)).hf.save_pretrained(folder)
    return folder


def texts(count: int, seed: int, sentences: tuple[int, int] = (1, 4)) -> list[dict[str, str]]:
    """Return rows whose sentences, so many at least and at most, are about the row's topic."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        about = list(TOPICS.values())[index % len(TOPICS)].split()
        said = [
            " ".join([*random.choice(FILLERS, 2), random.choice(about)])
            for _ in range(random.integers(sentences[0], sentences[1] + 1))
        ]
        made.append({"text": "".join(f"{sentence}. " for sentence in said)})
    return made


def write(folder: Path, model: Path, sentences: tuple[int, int] = (1, 4), count: int = 60, **settings: Any) -> Path:
    """Write a task without labelled rows; return the pipeline's path."""
    folder.mkdir(exist_ok=True)
    write_rows(folder / "unlabeled.jsonl", texts(count, 3, sentences))
    pipeline = {
        "task": "topics",
        "data": {"unlabeled": "unlabeled.jsonl"},
        "patterns": [{"id": "all", "text": "{mask}: {text}"}],
        "verbalizer": {"labels": LABEL_WORDS},
        "model": str(model),
        "max_length": 32,
        "pretrain_prompt": {**SETTINGS, **settings},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1, "checkpoint_minutes": 0},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return folder / "pipeline.yaml"


def make(pipeline_file: Path, folder: Path, *overrides: str, killed_at: int = 0) -> tuple[PretrainedPrompt, list[Event]]:
    """Pre-train; ``overrides`` are of the section ``pretrain_prompt`` unless they name another."""
    heard: list[Event] = []

    def on_event(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Progress) and event.done == killed_at:
            raise Killed

    spelt = [text if "." in text.partition("=")[0] or text.startswith(TOP) else f"pretrain_prompt.{text}" for text in overrides]
    return pretrain_prompt(load(pipeline_file, *spelt), folder, on_event=on_event), heard
