"""Runs in processes of their own, to be killed: forked from a server process that has imported everything once."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0  # seconds
# Of the tiny task, so that a run takes a second.
SHORT = ("teachers.steps=6", "student.steps=8")


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> None:
    """A process that has imported everything from where these tests have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]), prepend=os.pathsep)
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            ["tests.tiny_task", "transformers.models.bert.modeling_bert"]
        )
        forkserver.ensure_running()


def wait_to_be_killed(said: Connection) -> None:
    """Tell the parent and do nothing more."""
    said.send("here")
    time.sleep(2 * PATIENCE)


@contextmanager
def running(
    target: Callable[..., None], pipeline_file: Path, folder: Path, where: Any, **options: Any
) -> Iterator[tuple[BaseProcess, Connection]]:
    context = multiprocessing.get_context("forkserver")
    hears, says = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(str(pipeline_file), str(folder), says, where, options), daemon=True)
    process.start()
    says.close()
    try:
        yield process, hears
    finally:
        process.kill()
        process.join()
        hears.close()


def reported(folder: Path) -> list[Any]:
    """Return the events in the run folder."""
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
