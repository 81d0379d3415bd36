"""What every test here needs: a sound model to spoil, a mark that only code that must not run would leave, the command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import finished_run, petkit_command, tiny
from tests.safety.hostile import Mark

__all__ = ["finished_run", "petkit_command", "tiny"]


@pytest.fixture
def model(model_folder: Callable[[str], Path], here: Path) -> Path:
    """A tiny BERT to spoil, shown as ``m`` in messages."""
    return Path(shutil.copytree(model_folder("bert"), here / "m"))


@pytest.fixture
def mark(tmp_path: Path) -> Mark:
    """A file that hostile code would make; the test fails if it is there at the end."""
    return Mark(tmp_path / "code-has-run")
