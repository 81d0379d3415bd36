"""The tiny task and a finished run of it, for tests that break them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.forked import SHORT
from tests.tiny_run import FirstRun
from tests.tiny_task import run_task


@pytest.fixture(scope="session")
def undisturbed(pipeline_file: Path, first_run: FirstRun) -> Path:
    """A finished short run that nothing happened to; nobody changes it."""
    return run_task(pipeline_file, pipeline_file.parent / "undisturbed", *SHORT).folder
