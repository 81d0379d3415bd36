"""Files and folders have the modes that the umask gives, regardless of what libraries write."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from petkit.commands.init_project import create_project
from petkit.runs.store import RunStore
from petkit.storage.atomic import follow_umask


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> set[tuple[bool, int]]:
    """Return the modes of a folder and all in it, and whether they are a folder's."""
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


def test_a_folder_follows_the_umask(umask: int, here: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=here))
    handle, _ = tempfile.mkstemp(dir=folder)
    os.close(handle)

    follow_umask(folder)

    assert modes(folder) == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}


def test_steps_and_projects_follow_the_umask(umask: int, here: Path) -> None:
    store = RunStore(here / "run")
    (here / "run").mkdir()
    with store.publishing("stage_c/model", {}, {}) as work:
        handle, _ = tempfile.mkstemp(dir=work)  # as safetensors writes weights
        os.close(handle)
    create_project(here / "project", ["a", "b"], None)

    for folder in (here / "run" / "stage_c" / "model", here / "project"):
        assert modes(folder) == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}
