"""SIGKILL anywhere, run again: the same bytes as a run that nobody disturbed, and no finished step done twice.

The runs to kill are forked from a server process that has imported everything once.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit.errors import RunConflict
from petkit.events import Event, Progress
from petkit.runs.store import RunStore
from petkit.runs.verify import verify
from tests.reliability.forked import PATIENCE, SHORT, fork_server, reported, running, wait_to_be_killed
from tests.tiny_run import FirstRun
from tests.tiny_task import STEPS, products, run_task, student_weights

__all__ = ["fork_server"]
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
# A step, and how many of its progress events pass before the run is stopped.
MOMENTS = [
    ("stage_a/colon-1/model", 1),
    ("stage_a/brackets-1/model", 4),
    ("stage_a/colon-2/logits", 1),
    ("stage_b", 1),
    ("stage_c/model", 1),
    ("stage_c/model", 8),
    ("evaluation", 4),
]


@pytest.fixture(scope="module")
def undisturbed(pipeline_file: Path, first_run: FirstRun) -> Path:
    """The same run without a kill."""
    return run_task(pipeline_file, pipeline_file.parent / "undisturbed", *SHORT).folder


def run_until(pipeline_file: str, folder: str, said: Connection, moment: tuple[str, int] | None, options: dict[str, Any]) -> None:
    """Run the task in this process; stop at ``moment``."""
    heard = 0

    def on_event(event: Event) -> None:
        nonlocal heard
        if moment is not None and isinstance(event, Progress) and event.step == moment[0]:
            heard += 1
            if heard == moment[1]:
                wait_to_be_killed(said)

    run_task(Path(pipeline_file), Path(folder), *SHORT, on_event=on_event, **options)
    said.send("finished")


def run_until_rename(pipeline_file: str, folder: str, said: Connection, target: str, options: dict[str, Any]) -> None:
    """Run the task; stop before anything is renamed to ``target``, a path in the run folder."""
    rename = os.replace

    def replace(source: Any, destination: Any) -> None:
        if Path(destination) == Path(folder) / target:
            wait_to_be_killed(said)
        rename(source, destination)

    os.replace = replace
    run_until(pipeline_file, folder, said, None, options)


def unfinished(finished: Path, folder: Path, step: str) -> None:
    """Copy a finished run as far as it was before a step, without its events."""
    shutil.copytree(finished, folder)
    for name in STEPS[STEPS.index(step) :]:
        shutil.rmtree(folder / name)
    (folder / "events.jsonl").unlink()


def kill_at(target: Any, pipeline_file: Path, folder: Path, where: Any, **options: Any) -> None:
    """Run the task in a process of its own and kill that at the given point."""
    with running(target, pipeline_file, folder, where, **options) as (process, hears):
        assert hears.poll(PATIENCE), "the run did not come that far"
        assert hears.recv() == "here"
        with pytest.raises(RunConflict, match="in use by another process"):
            run_task(pipeline_file, folder, *SHORT)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(("step", "count"), MOMENTS, ids=[f"{step}-{count}" for step, count in MOMENTS])
def test_killed_at_work(step: str, count: int, pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    folder, done = here / "run", STEPS[: STEPS.index(step)]
    unfinished(undisturbed, folder, step)
    kill_at(run_until, pipeline_file, folder, (step, count))
    assert [entry["step"] for entry in reported(folder) if entry["event"] == "StepStarted"] == [step]
    assert [name for name in STEPS if RunStore(folder).content(name) is not None] == list(done)
    before = products(folder)
    assert (folder / ".work").exists()  # half a step lies there
    result = run_task(pipeline_file, folder, *SHORT)
    assert result.ran == STEPS[len(done) :]
    assert before.items() <= products(folder).items()
    assert products(folder) == products(undisturbed) and student_weights(folder) == student_weights(undisturbed)
    assert not (folder / ".work").exists()


@pytest.mark.parametrize(
    "target", ["manifest.json", "config.resolved.yaml", "stage_a/brackets-2/model", "stage_b", "stage_c/model"]
)
def test_killed_while_publishing(target: str, pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    """Everything is written, its name is not."""
    if target in STEPS:
        unfinished(undisturbed, here / "run", target)
    kill_at(run_until_rename, pipeline_file, here / "run", target)
    assert not (here / "run" / target).exists()
    assert run_task(pipeline_file, here / "run", *SHORT).ran == STEPS[STEPS.index(target) if target in STEPS else 0 :]
    assert products(here / "run") == products(undisturbed)


def test_killed_between_the_old_step_and_the_new(pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    """The old soft labels have stepped aside, the new ones are not in their place: the step is missing, never half."""
    folder = Path(shutil.copytree(undisturbed, here / "run"))
    kill_at(run_until_rename, pipeline_file, folder, "stage_b", force="b")
    assert RunStore(folder).content("stage_b") is None
    assert run_task(pipeline_file, folder, *SHORT).ran == ("stage_b",)
    assert products(folder) == products(undisturbed)


@pytest.mark.parametrize("seed", range(int(os.environ.get("PETKIT_KILL_SEEDS", "1"))))
def test_killed_again_and_again_at_any_moment(seed: int, pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    """Wherever the clock strikes: each run begins where the last one ended, and the end is the same."""
    folder, random = here / "run", np.random.default_rng(seed)
    for delay in (0.05, 0.2, 0.4) if seed == 0 else random.exponential(0.25, random.integers(2, 9)).tolist():
        before = reported(folder)
        with running(run_until, pipeline_file, folder, None) as (process, hears):
            wait_for_more(folder, before, hears)
            time.sleep(delay)
            process.kill()
            process.join()
    run_task(pipeline_file, folder, *SHORT)
    assert products(folder) == products(undisturbed) and verify(folder).whole
    ends = [entry["step"] for entry in reported(folder) if entry["event"] == "StepFinished"]
    assert len(ends) == len(set(ends))  # nothing that was reported finished was done again


def wait_for_more(folder: Path, before: list[Any], hears: Connection) -> None:
    """Wait until the run tells something, or has finished."""
    deadline = time.monotonic() + PATIENCE
    while reported(folder) == before and not hears.poll(0.01):
        assert time.monotonic() < deadline, "the run did not start"
