"""One finished run of the tiny task, shared by the tests that read it or change a copy."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from petkit.events import Event
from petkit.runs.checkpoint import StepCheckpoints
from petkit.stages.pipeline import RunResult
from tests.tiny_task import run_task, write_task


@dataclass(frozen=True)
class FirstRun:
    """What the first run of the task gave back and reported."""

    result: RunResult
    heard: list[Event]


@pytest.fixture
def every_third_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings keep their state after every third step, unless minutes must pass between two."""
    asked: Counter[int] = Counter()

    def due(self: StepCheckpoints, *, last: bool) -> bool:
        asked[id(self)] += 1
        return not last and self._seconds == 0 and asked[id(self)] % 3 == 0

    monkeypatch.setattr(StepCheckpoints, "due", due)


@pytest.fixture(scope="session")
def pipeline_file(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Path:
    """The pipeline file; nobody changes it or its data."""
    return write_task(tmp_path_factory.mktemp("task"), model_folder("bert"))


@pytest.fixture(scope="session")
def first_run(pipeline_file: Path) -> FirstRun:
    """The first run of the task."""
    heard: list[Event] = []
    result = run_task(pipeline_file, pipeline_file.parent / "finished", on_event=heard.append)
    return FirstRun(result, heard)


@pytest.fixture(scope="session")
def finished(first_run: FirstRun) -> Path:
    """The folder of the first run; nobody changes it."""
    return first_run.result.folder


@pytest.fixture
def copy(finished: Path, here: Path) -> Path:
    """A finished run to change, shown as ``run`` in messages."""
    return Path(shutil.copytree(finished, here / "run"))
