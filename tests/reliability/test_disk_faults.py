"""A disk that takes no more, at every write: one line says so, what is finished stays, and the next run ends as a clean one."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petkit.errors import DiskRefused, PetkitError, RunConflict
from petkit.metrics.decision import Decision
from petkit.predict.output import output_file
from petkit.predict.predictor import Predictor
from petkit.runs import provenance, store
from petkit.runs.verify import verify
from petkit.storage import fault_points
from petkit.storage.atomic import write_text
from petkit.storage.fault_points import ANY, VARIABLE
from tests.cli.conftest import Outcome, petkit_command
from tests.reliability.forked import PATIENCE, SHORT, fork_server, reported, running
from tests.reliability.matrix import checksums
from tests.tiny_task import planned, products, run_task

__all__ = ["fork_server", "petkit_command"]
TOO_LARGE = "a file may not grow as large as needed (ulimit -f shows the limit)"
FIXED = "finished steps are kept; fix the problem and rerun the same command"


@pytest.fixture
def fails_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``fails_at("*#3=ENOSPC")``: from the third crash point on the disk is full; ``fails_at("")`` fixes it."""

    def set_fault(where: str) -> None:
        fault_points.passed = 0
        monkeypatch.setenv(VARIABLE, where)

    return set_fault


@pytest.mark.timeout(900)
def test_disk_full_at_one_write_after_another(
    fails_at: Callable[[str], None], pipeline_file: Path, undisturbed: Path, here: Path
) -> None:
    folder, before, number, refused = here / "run", dict[str, str](), 1, list[str]()
    while True:
        fails_at(f"{ANY}#{number}=ENOSPC")
        try:
            run_task(pipeline_file, folder, *SHORT)
            break
        except PetkitError as error:
            refused.append(str(error))
        fails_at("")
        assert before.items() <= checksums(folder).items(), number
        assert not (folder / ".work").exists()  # what was half-made gives its place back
        before, number = checksums(folder), number + 7
    assert refused[0] == "run: cannot be written: No space left on device"
    assert len(refused) > 10 and set(refused[1:]) == {f"run: the disk is full ({FIXED})"}
    assert products(folder) == products(undisturbed) and verify(folder).whole


@pytest.mark.parametrize("number", [1, 2, 8])
def test_disk_full_while_the_rows_of_a_large_set_are_put_there(
    number: int,
    fails_at: Callable[[str], None],
    pipeline_file: Path,
    undisturbed: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("petkit.task.task.HELD_ROWS", 0)
    fails_at(f"rows: before write#{number}=ENOSPC")
    with pytest.raises(DiskRefused) as refused:
        run_task(pipeline_file, here / "run", *SHORT)
    assert str(refused.value) == f"run: the disk is full ({FIXED})" and not (here / "run" / ".work").exists()
    fails_at("")
    run_task(pipeline_file, here / "run", *SHORT)
    assert products(here / "run") == products(undisturbed)


def test_a_log_without_room_costs_nothing(
    fails_at: Callable[[str], None], pipeline_file: Path, undisturbed: Path, here: Path
) -> None:
    fails_at("event: before write=ENOSPC")
    run_task(pipeline_file, here / "run", *SHORT)
    assert not (here / "run" / "events.jsonl").exists()
    assert products(here / "run") == products(undisturbed) and verify(here / "run").whole


FAULTS = [
    ("file: before rename", "EACCES", "manifest.json", "Permission denied"),
    ("event: before write", "EROFS", "events.jsonl", "Read-only file system"),
    ("model: before write", "EIO", "stage_a/colon-1/model", "Input/output error"),
]


@pytest.mark.parametrize(("point", "fault", "name", "words"), FAULTS, ids=[fault[1] for fault in FAULTS])
def test_a_disk_that_refuses_is_named(
    point: str,
    fault: str,
    name: str,
    words: str,
    fails_at: Callable[[str], None],
    pipeline_file: Path,
    undisturbed: Path,
    here: Path,
) -> None:
    fails_at(f"{point}={fault}")
    with pytest.raises(DiskRefused) as refused:
        run_task(pipeline_file, here / "run", *SHORT)
    assert str(refused.value) == f"run: {name} cannot be read or written: {words} ({FIXED})" and refused.value.exit_code == 1
    fails_at("")
    run_task(pipeline_file, here / "run", *SHORT)
    assert products(here / "run") == products(undisturbed)


def run_with_small_files(pipeline_file: str, folder: str, said: Connection, limit: int, options: dict[str, Any]) -> None:
    """Run in this process, in which no file may grow beyond ``limit`` bytes: the system itself cuts every writer short."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        run_task(Path(pipeline_file), Path(folder), *SHORT)
        said.send("finished")
    except PetkitError as error:
        said.send(str(error))


def test_writers_that_the_system_cuts_short(pipeline_file: Path, undisturbed: Path, here: Path) -> None:
    """Python's, Rust's (weights) and C++'s (tables) alike: a real limit, not a patched function."""
    folder, sizes = here / "run", {path.stat().st_size for path in undisturbed.rglob("*") if path.is_file()}
    biggest = max(sizes)
    for limit in (100, 1_500, 4_000, biggest // 2, biggest - 1):
        with running(run_with_small_files, pipeline_file, folder, limit) as (_, hears):
            assert hears.poll(PATIENCE) and hears.recv() == f"run: {TOO_LARGE} ({FIXED})", limit
        assert checksums(folder) == {} and not (folder / ".work").exists()
    run_task(pipeline_file, folder, *SHORT)
    assert products(folder) == products(undisturbed)


def test_the_command_line_says_it_in_one_line(
    fails_at: Callable[[str], None], petkit_command: Callable[..., Outcome], pipeline_file: Path, undisturbed: Path, here: Path
) -> None:
    settings = [part for setting in SHORT for part in ("--set", setting)]
    fails_at("publish: recorded#3=ENOSPC")
    full = petkit_command("run", pipeline_file, "--out", "run", "--quiet", *settings)
    assert (full.code, full.out, full.err) == (1, "", f"run: the disk is full ({FIXED})\n")
    fails_at("file: written=ENOSPC")
    output = petkit_command("predict", undisturbed, "a game", "--output", here / "out.csv")
    assert (output.code, output.err) == (1, f"petkit: {here / 'out.csv'}: No space left on device\n")
    fails_at("")
    assert sorted(path.name for path in here.iterdir()) == ["run"]


@pytest.mark.parametrize("fault", ["ENOSPC", "EACCES"])
def test_small_files_leave_nothing_behind(fault: str, fails_at: Callable[[str], None], here: Path) -> None:
    (here / "words.yaml").write_text("before")
    fails_at(f"file: before rename={fault}")
    with pytest.raises(OSError, match=r"words\.yaml"):
        write_text(here / "words.yaml", "after")
    assert {path.name: path.read_text() for path in here.iterdir()} == {"words.yaml": "before"}


def test_two_processes_may_write_one_output(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each writes aside under a name of its own; the last one to end wins, whole."""

    predictor = Predictor(("a", "b"), ("text",), {}, lambda rows: np.zeros((len(rows), 2)), Decision())
    with output_file(here / "out.jsonl", predictor), output_file(here / "out.jsonl", predictor):
        assert len(list(here.iterdir())) == 2
    assert [path.name for path in here.iterdir()] == ["out.jsonl"]


# -- what else can happen to a run folder ------------------------------------------------------------------


def test_a_lock_that_a_dead_process_left_locks_nothing(pipeline_file: Path, copy: Path) -> None:
    (copy / ".lock").write_text("4711")
    assert run_task(pipeline_file, copy).ran == ()


def test_a_second_process_leaves_the_first_alone(pipeline_file: Path, copy: Path) -> None:
    before = checksums(copy)
    with store.RunStore(copy).locked(), pytest.raises(RunConflict, match="run: in use by another process"):
        run_task(pipeline_file, copy, force="all")
    assert checksums(copy) == before


def test_a_moved_run_goes_on_and_answers(
    pipeline_file: Path, copy: Path, here: Path, petkit_command: Callable[..., Outcome]
) -> None:
    before = petkit_command("predict", copy, "a good game").out
    shutil.rmtree(copy / "evaluation")
    (here / "archive").mkdir()
    moved = Path(shutil.move(copy, here / "archive" / "old"))
    assert {entry.action for step, entry in planned(pipeline_file, moved).items() if step != "evaluation"} == {"skip"}
    assert run_task(pipeline_file, moved).ran == ("evaluation",)
    assert before and petkit_command("predict", moved, "a good game").out == before
    assert verify(moved).whole


def test_a_clock_that_goes_backwards_changes_nothing(
    pipeline_file: Path, undisturbed: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(9_999, 0, -1))
    for module in (provenance, store):
        monkeypatch.setattr(module, "now", lambda: f"{next(times):04d}-01-01T00:00:00+00:00")
    run_task(pipeline_file, here / "run", *SHORT, stages=("a",))
    before = checksums(here / "run")
    for path in (here / "run").rglob("*"):
        os.utime(path, (0, 0))
    result = run_task(pipeline_file, here / "run", *SHORT)
    assert not set(before) & set(result.ran) and before.items() <= checksums(here / "run").items()
    assert products(here / "run") == products(undisturbed)
    written = [entry["time"] for entry in reported(here / "run")]
    assert written == sorted(written, reverse=True) and len(set(written)) == len(written)
