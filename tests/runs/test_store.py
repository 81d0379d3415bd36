"""The run folder: a step is finished, stale, damaged or missing; and nothing half-made is ever seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petkit.errors import IncompleteRun, RunConflict
from petkit.events import Notice, StepFinished, StepSkipped, StepStarted
from petkit.runs import store as store_module
from petkit.runs.fingerprint import Inputs
from petkit.runs.store import RunStore, Status
from petkit.storage.integrity import RECORD
from tests.runs.steps import CHANGED, INPUTS, STEP, flip, publish, tree


@pytest.fixture
def store(here: Path) -> RunStore:
    """A store in a run folder shown as ``run``; the lock is not held."""
    return RunStore(here / "run")


# -- publishing and reading ----------------------------------------------------------------------------


def test_published_step_is_finished_and_readable(store: RunStore) -> None:
    assert (store.status(STEP, INPUTS).state, store.content(STEP), store.inputs(STEP)) == ("missing", None, {})
    publish(store, accuracy=0.75)
    assert store.status(STEP, INPUTS).state == "finished"
    assert (store.path(STEP) / "logits" / "part.bin").read_text() == "weightsweights"
    assert store.inputs(STEP) == INPUTS
    record = json.loads((store.folder / STEP / "step.json").read_text())
    assert record["inputs"] == INPUTS and record["versions"]["torch"] and record["machine"]["cores"]
    assert sorted(record["files"]) == ["logits/part.bin", "model.bin"]


def test_content_follows_the_bytes(store: RunStore) -> None:
    publish(store)
    publish(store, "other", {"a": 1})
    publish(store, "third", INPUTS, content="other weights")
    assert store.content(STEP) == store.content("other") != store.content("third")


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (CHANGED, "teachers.steps 100 → 200"),
        ({**INPUTS, "model": "f" * 64}, "model changed"),
        ({**INPUTS, "teachers.seed": 1}, "teachers.seed added"),
    ],
)
def test_other_inputs_make_a_step_stale_and_leave_it_alone(store: RunStore, inputs: Inputs, why: str) -> None:
    publish(store)
    before = tree(store.folder)
    status = store.status(STEP, inputs)
    assert (status.state, status.why) == ("stale", why)
    assert tree(store.folder) == before


def test_inputs_about_to_be_renewed_make_nothing_stale(store: RunStore) -> None:
    publish(store, inputs={**INPUTS, "stage_a/x": "old"})
    now: Inputs = {**INPUTS, "stage_a/x": "new"}
    assert store.status(STEP, now).state == "stale"
    assert store.status(STEP, now, unknown=["stage_a/x"]).state == "finished"
    assert store.status(STEP, {**now, "teachers.steps": 1}, unknown=["stage_a/x"]).why == "teachers.steps 100 → 1"


def test_replacing_a_step_leaves_nothing_of_the_old_one(store: RunStore) -> None:
    publish(store)
    (store.folder / STEP / "stray.txt").write_text("old")
    publish(store, inputs=CHANGED, content="new")
    assert sorted(tree(store.folder / STEP)) == ["logits/part.bin", "model.bin", "step.json"]
    assert store.status(STEP, INPUTS).why == "teachers.steps 200 → 100"
    assert (store.path(STEP) / "model.bin").read_text() == "new"
    assert not (store.folder / ".work").exists()


def test_a_replaced_step_gives_its_disk_back_before_the_run_ends(store: RunStore) -> None:
    publish(store)
    with store.locked():
        with store.publishing(STEP, CHANGED, {}) as folder:
            (folder / "model.bin").write_text("new")
        assert not list((store.folder / ".work").rglob("*.bin"))


# -- damage ----------------------------------------------------------------------------------------------


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (lambda path: path.unlink(), "model.bin is missing"),
    "truncated": (lambda path: path.write_text("weight"), "model.bin has 6 bytes instead of 7"),
    "longer": (lambda path: path.write_text("weights!"), "model.bin has 8 bytes instead of 7"),
    "flipped": (flip, "model.bin has changed"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_step_is_never_read(store: RunStore, case: str) -> None:
    publish(store)
    damage, why = DAMAGE[case]
    damage(store.folder / STEP / "model.bin")
    fresh = RunStore(store.folder)
    hint = r"\(petkit run makes it again; petkit verify run checks the rest\)"
    with pytest.raises(IncompleteRun, match=rf"^run: {STEP} is damaged: {why} {hint}$"):
        fresh.path(STEP)
    assert fresh.status(STEP, INPUTS) == Status("damaged", why)
    unread = RunStore(store.folder).status(STEP, INPUTS, hashes=False)
    assert unread == Status("finished") if case == "flipped" else Status("damaged", why)


def test_nothing_is_read_before_it_is_finished(store: RunStore) -> None:
    with pytest.raises(IncompleteRun, match=f"run: {STEP} is not finished"):
        store.path(STEP)


def test_without_a_record_nothing_is_finished(store: RunStore) -> None:
    publish(store)
    (store.folder / STEP / RECORD).unlink()
    assert store.status(STEP, INPUTS) == Status("missing", "step.json is missing") and store.content(STEP) is None
    with pytest.raises(IncompleteRun, match="not finished"):
        store.path(STEP)


def test_a_step_copied_under_another_name_is_not_that_step(store: RunStore) -> None:
    publish(store)
    shutil.copytree(store.folder / STEP, store.folder / "stage_a" / "colon-2" / "model")
    assert store.status("stage_a/colon-2/model", INPUTS).state == "damaged"


def test_a_damaged_step_is_made_again(store: RunStore) -> None:
    publish(store)
    (store.folder / STEP / "model.bin").unlink()
    publish(store)
    assert store.status(STEP, INPUTS).state == "finished" and store.path(STEP)


# -- crashes ---------------------------------------------------------------------------------------------


class Crash(BaseException):
    """Stands for anything, a keyboard interrupt included."""


@pytest.mark.parametrize("before", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("where", ["work", "record", "rename"])
def test_crash_while_publishing_leaves_nothing_half_made(
    store: RunStore, before: bool, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before:
        publish(store)

    def crash(*args: object) -> None:
        raise Crash

    def half_a_step() -> None:
        with monkeypatch.context() as broken, store.locked(), store.publishing(STEP, CHANGED, {}) as folder:
            (folder / "model.bin").write_text("half")
            if where == "work":
                crash()
            broken.setattr(*((store_module, "json_with_checksum") if where == "record" else (os, "replace")), crash)

    with pytest.raises(Crash):
        half_a_step()
    assert store.status(STEP, INPUTS).state == ("finished" if before else "missing")
    assert not before or (store.path(STEP) / "model.bin").read_text() == "weights"
    assert not (store.folder / ".work").exists()
    publish(store)
    assert store.status(STEP, INPUTS).state == "finished"


def test_what_a_killed_run_left_in_work_is_swept_away(store: RunStore) -> None:
    publish(store)
    (store.folder / ".work" / "steps" / "x").mkdir(parents=True)
    (store.folder / ".work" / "steps" / "x" / "model.bin").write_text("half")
    with store.locked():
        assert not (store.folder / ".work").exists()
        assert store.scratch("tokens").is_dir()
    assert not (store.folder / ".work").exists()


def test_killed_before_the_first_manifest_is_not_a_foreign_folder(store: RunStore) -> None:
    """Killed at the worst moment: the folder holds a lock, work, and a manifest that was not yet renamed."""
    (store.folder / ".work" / "steps").mkdir(parents=True)
    for name in (".lock", ".manifest.json.12345678.tmp"):
        (store.folder / name).write_text("")
    publish(store)
    assert not (store.folder / ".manifest.json.12345678.tmp").exists()
    assert store.status(STEP, INPUTS).state == "finished"


def test_small_files_are_whole_or_not_there(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)
    before = sorted(store.folder.iterdir())
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(Crash()))
    with pytest.raises(Crash):
        store.write_manifest({"task": "other"})
    assert store.manifest()["task"] == "test" and sorted(store.folder.iterdir()) == before


# -- whose folder it is ----------------------------------------------------------------------------------


@pytest.fixture
def holder(store: RunStore) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run folder."""
    code = "import sys; from petkit.runs.store import RunStore\nwith RunStore(sys.argv[1]).locked():\n print('held', flush=True); input()"
    command = [sys.executable, "-c", code, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_folder_held_by_another_process_until_it_dies(store: RunStore, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunConflict, match=r"^run: in use by another process \(wait for it, or choose another --out\)$"):
        publish(store)
    assert store.status(STEP, INPUTS).state == "missing"  # reading needs no lock
    holder.kill()
    holder.wait()
    publish(store)
    assert store.status(STEP, INPUTS).state == "finished"


def test_lock_is_free_after_an_error(store: RunStore) -> None:
    with pytest.raises(Crash), store.locked():
        raise Crash
    publish(store)


def test_reading_writes_nothing(store: RunStore) -> None:
    publish(store)
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    fresh = RunStore(store.folder)
    assert (
        fresh.status(STEP, INPUTS).state == "finished" and fresh.path(STEP) and fresh.manifest() and fresh.inputs(STEP) == INPUTS
    )
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")} == before


def test_moved_run_folder_is_still_whole(store: RunStore, here: Path) -> None:
    publish(store)
    shutil.move(store.folder, here / "archive" / "old-run")
    moved = RunStore(here / "archive" / "old-run")
    assert moved.status(STEP, INPUTS).state == "finished" and moved.path(STEP)
    publish(moved, "stage_b", {"a": 1})
    assert moved.status("stage_b", {"a": 1}).state == "finished"


# -- the story -------------------------------------------------------------------------------------------


def test_events_are_appended_one_per_line(store: RunStore) -> None:
    publish(store)
    events = [StepSkipped("a"), StepStarted("b", "stale: übel"), StepFinished("b", 1.5, {"loss": 0.1}), Notice("b", "two\nlines")]
    for event in events:
        store.log(event)
    lines = (store.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["event"] for entry in entries] == ["StepSkipped", "StepStarted", "StepFinished", "Notice"]
    assert entries[1]["why"] == "stale: übel" and entries[2]["facts"] == {"loss": 0.1} and entries[3]["message"] == "two\nlines"
    assert all(entry["time"].endswith("+00:00") for entry in entries)
