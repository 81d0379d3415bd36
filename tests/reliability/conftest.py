"""The tiny task and a finished run of it, for tests that break them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.forked import SHORT
from tests.stages.conftest import FirstRun, copy, finished, first_run, task
from tests.stages.tiny_task import run_task

__all__ = ["FirstRun", "copy", "finished", "first_run", "task"]


@pytest.fixture(scope="session")
def undisturbed(task: Path, first_run: FirstRun) -> Path:
    """A finished short run that nothing happened to; nobody changes it."""
    return run_task(task, task.parent / "undisturbed", *SHORT).folder
