"""A baseline: what it answers for the test rows, and what its result depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from petkit.data.examples import targets_of
from petkit.engine.device import Device
from petkit.ensemble import FloatArray
from petkit.runs.fingerprint import Inputs
from petkit.runs.step import Job
from petkit.task.task import Task

# Logits of the test rows, shape (rows, labels), and the settings they were made with.
Answer: TypeAlias = tuple[FloatArray, dict[str, Any]]


def train_inputs(task: Task, device: Device) -> Inputs:
    """Return the inputs of a baseline that depends on the labelled rows alone."""
    return {"data.train": task.scans["train"].sha256}


@dataclass(frozen=True)
class Baseline:
    """Another classifier from the same labelled rows."""

    answer: Callable[[Task, Device, Job], Answer]  # trains it and scores the test rows
    inputs: Callable[[Task, Device], Inputs] = train_inputs  # what its result depends on besides the test rows and the labels
    package: str | None = None  # the optional package it needs


def targets(task: Task) -> FloatArray:
    """Return the labels of the labelled rows, 1 or 0, shape ``(rows, labels)``."""
    return targets_of(task.train, len(task.labels))


def texts(task: Task, part: str) -> list[str]:
    """Return the rows as plain texts, all fields of a row one after another."""
    examples = task.train if part == "train" else task.rows(part)
    return [" ".join(example.fields[field] for field in task.fields) for example in examples]
