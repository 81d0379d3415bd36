"""Folders that petkit did not make, or that are part of another run: refused and left as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from petkit.errors import RunConflict
from petkit.events import StepSkipped
from petkit.runs import store as store_module
from petkit.runs.store import RunStore
from petkit.runs.verify import verify
from tests.runs.steps import flip, publish, tree


@pytest.fixture
def store(here: Path) -> RunStore:
    """A store in a run folder shown as ``run``; the lock is not held."""
    return RunStore(here / "run")


def test_foreign_folder_is_refused_and_untouched(store: RunStore) -> None:
    store.folder.mkdir()
    (store.folder / "thesis.txt").write_text("precious")
    with pytest.raises(RunConflict, match=r"^run: is not empty and does not contain a petkit run \(choose another --out\)$"):
        publish(store)
    assert list(tree(store.folder)) == ["thesis.txt"]


@pytest.mark.parametrize("inside", ["x", "stage_b/x", "stage_a/colon-1/model/x/y", ".work/x", "../run/stage_c", "link/x"])
@pytest.mark.parametrize("state", ["whole", "without manifest", "damaged manifest", "just begun"])
def test_a_place_inside_another_run_is_refused(inside: str, state: str, store: RunStore, here: Path) -> None:
    with store.locked():
        pass
    if state != "just begun":
        store.write_manifest({"task": "tiny"})
        store.log(StepSkipped("stage_b"))
        publish(store)
    if state == "damaged manifest":
        flip(store.folder / "manifest.json")
    if state == "without manifest":
        (store.folder / "manifest.json").unlink()
    (store.folder / ".work").mkdir(exist_ok=True)
    (here / "link").symlink_to(store.folder)
    before = tree(here)
    other = RunStore(here / inside if inside.startswith("link") else store.folder / inside)
    for refuse in (other.refuse_foreign, other.locked().__enter__):
        with pytest.raises(RunConflict, match=r"is inside the run folder .*run \(choose another --out\)$"):
            refuse()
    assert tree(here) == before


def test_a_run_next_to_runs_and_manifests_of_others_is_accepted(store: RunStore, here: Path) -> None:
    publish(store)
    store.write_manifest({"task": "tiny"})
    (here / "manifest.json").write_text('{"name": "a web page"}')
    (here / ".lock").touch()
    RunStore(here / "run-2").refuse_foreign()
    RunStore(here / "runs" / ".work" / "mine").refuse_foreign()


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", ["precious.txt", "mine/precious.txt", ""])
def test_work_of_others_is_refused_and_stays(name: str, begun: bool, store: RunStore) -> None:
    if begun:
        publish(store)
        store.write_manifest({"task": "tiny"})
    work = store.folder / ".work" / name
    work.parent.mkdir(parents=True, exist_ok=True)
    work.write_text("x")
    before = tree(store.folder)
    shown = f".work/{name.split('/')[0]}".rstrip("/")
    reported = f"run: {shown} was not written by petkit, which empties .work (move it away, or choose another --out)"
    for refuse in (store.refuse_foreign, store.locked().__enter__):
        with pytest.raises(RunConflict) as refused:
            refuse()
        assert str(refused.value) == reported
    assert tree(store.folder) == before
    if begun:
        assert {entry.name: entry.state for entry in verify(store.folder).entries}[shown] == "unknown"


def test_empty_folder_is_accepted(store: RunStore) -> None:
    store.folder.mkdir()
    publish(store)


def test_file_in_place_of_the_folder(store: RunStore) -> None:
    store.folder.write_text("a file")
    with pytest.raises(RunConflict, match="run: is a file, not a folder"):
        publish(store)


@pytest.mark.parametrize("manifest", ["{", "[]", '{"name": "a web page"}', '{"schema": 99}'])
def test_manifest_of_something_else(store: RunStore, manifest: str) -> None:
    store.folder.mkdir()
    (store.folder / "manifest.json").write_text(manifest)
    with pytest.raises(RunConflict, match=r"run: manifest\.json was not written by this version of petkit"):
        publish(store)
    assert list(tree(store.folder)) == ["manifest.json"]


def test_folder_that_cannot_be_made_is_reported(store: RunStore) -> None:
    store.folder.parent.joinpath("file").write_text("")
    with pytest.raises(RunConflict, match=r"cannot be written: Not a directory"):
        publish(RunStore(store.folder.parent / "file" / "run"))


def test_read_only_folder_is_reported(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_module.FileLock, "acquire", refuse)  # permissions do not bind an administrator
    with pytest.raises(RunConflict, match=r"^run: cannot be written: Permission denied$"):
        publish(store)
