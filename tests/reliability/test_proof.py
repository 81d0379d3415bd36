"""Records that prove a step whole: every bit counts, nothing outside is touched, and what cannot be read is not made again."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from petkit.errors import DiskRefused, IncompleteRun, RunConflict
from petkit.events import StepSkipped
from petkit.runs.store import ADAPTED_MODEL, RunStore, Status
from petkit.storage.checksum import checked_json, is_checked_log_line, json_with_checksum
from petkit.storage.integrity import RECORD, Unreadable
from tests.runs.steps import CHANGED, INPUTS, STEP, flip, publish, tree


@pytest.fixture
def store(here: Path) -> RunStore:
    """A store in a run folder shown as ``run``; the lock is not held."""
    return RunStore(here / "run")


@pytest.mark.parametrize("record", ["", "{", "[]", "null", "[" * 100_000, '{"schema": 1}', '{"schema": 99, "step": "x"}', "\xff"])
def test_half_a_record_is_damage(store: RunStore, record: str) -> None:
    publish(store)
    (store.folder / STEP / RECORD).write_bytes(record.encode("latin-1"))
    assert store.status(STEP, INPUTS) == Status("damaged", "step.json is damaged") and store.content(STEP) is None
    with pytest.raises(IncompleteRun, match=rf"^run: {STEP} is damaged: step\.json \(petkit run makes it again; "):
        store.path(STEP)


def edited(store: RunStore, **changes: object) -> None:
    """Change a record by hand, checksum and all."""
    data = json.loads((store.folder / STEP / RECORD).read_text())
    del data["seal"]
    (store.folder / STEP / RECORD).write_text(json_with_checksum({**data, **changes}))


def test_every_bit_of_a_record_counts(store: RunStore) -> None:
    publish(store)
    path = store.folder / STEP / RECORD
    whole = path.read_bytes()
    assert checked_json(whole)
    for place in range(len(whole)):
        for bit in range(8):
            assert checked_json(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]) is None, (place, bit)
    assert all(checked_json(whole[:end]) is None for end in range(len(whole)))


@pytest.mark.parametrize("change", [{"files": []}, {"files": {"a": 1}}, {"inputs": None}, {"facts": 3}, {"schema": 2}])
def test_a_record_of_another_form_is_damage(store: RunStore, change: dict[str, object]) -> None:
    publish(store)
    edited(store, **change)
    assert store.status(STEP, INPUTS).state == "damaged"


@pytest.mark.parametrize("name", ["../../../../thesis.txt", "/etc/passwd", "a/../../x", "", "C:\\x"])
def test_names_that_leave_the_folder_are_damage(store: RunStore, name: str) -> None:
    publish(store)
    edited(store, files={name: {"bytes": 1, "sha256": "0" * 64}})
    why = f"step.json names {name!r}, which is outside the folder"
    assert store.status(STEP, INPUTS) == Status("damaged", why)


def test_a_link_in_a_step_is_damage(store: RunStore, here: Path) -> None:
    """What it points to is whole today, and not petkit's."""
    publish(store)
    shutil.move(store.folder / STEP / "logits", here / "elsewhere")
    (store.folder / STEP / "logits").symlink_to(here / "elsewhere")
    assert store.status(STEP, INPUTS) == Status("damaged", "logits is a link")
    publish(store)
    assert (here / "elsewhere" / "part.bin").read_text() == "weightsweights"
    assert store.status(STEP, INPUTS).state == "finished"


def test_a_link_in_the_place_of_a_step_is_refused_and_what_it_points_to_stays(store: RunStore, here: Path) -> None:
    publish(store)
    shutil.move(store.folder / "stage_a", here / "elsewhere")
    (store.folder / "stage_a").symlink_to(here / "elsewhere")
    before = tree(here / "elsewhere")
    with pytest.raises(RunConflict, match=r"^run: stage_a is a link \(put the folder itself there, or choose another --out\)$"):
        store.status(STEP, INPUTS)
    assert tree(here / "elsewhere") == before


@pytest.mark.parametrize("name", ["manifest.json", "config.resolved.yaml", "events.jsonl", ".lock", ".work"])
def test_nothing_is_written_through_a_link(store: RunStore, here: Path, name: str) -> None:
    publish(store)
    (here / "elsewhere").write_text("precious")
    (store.folder / name).unlink(missing_ok=True)
    (store.folder / name).symlink_to(here / "elsewhere")
    with pytest.raises(RunConflict, match=rf"^run: {re.escape(name)} is a link, and petkit writes nothing outside"):
        publish(store)
    assert (here / "elsewhere").read_text() == "precious"


@pytest.mark.parametrize("name", ["adapter_config.json", "logits/part-2.parquet", "merges.txt"])
def test_a_file_that_a_loader_would_look_for_is_refused_and_kept(store: RunStore, name: str) -> None:
    publish(store)
    (store.folder / STEP / name).write_text("{}")
    reported = f"run: {STEP}/{name} was not written by petkit, and might be read with the other files"
    for look in (store.path, lambda step: store.status(step, INPUTS)):
        with pytest.raises(RunConflict) as refused:
            look(STEP)
        assert str(refused.value) == f"{reported} (move it out of the run folder)"
    assert (store.folder / STEP / name).is_file()


def test_other_files_in_a_step_do_no_harm(store: RunStore) -> None:
    publish(store)
    for name in ("README.md", ".DS_Store", "model.onnx"):
        (store.folder / STEP / name).write_text("mine")
    assert store.status(STEP, INPUTS).state == "finished" and store.path(STEP)


@pytest.mark.parametrize("name", [RECORD, "model.bin"])
def test_what_cannot_be_read_is_not_made_again(store: RunStore, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)
    opened = io.open

    def refuse(file: object, *arguments: object, **options: object) -> object:
        if str(file).endswith(name):
            raise OSError(errno.EIO, "Input/output error", str(file))
        return opened(file, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(io, "open", refuse)
    for look in (store.path, lambda step: store.status(step, INPUTS)):
        with pytest.raises(Unreadable, match=rf"^run/{STEP}/{name}: cannot be read: Input/output error \(nothing was changed"):
            look(STEP)


def test_a_proof_holds_for_one_making_of_a_step(store: RunStore) -> None:
    publish(store)
    assert store.path(STEP)
    publish(RunStore(store.folder), content="newer weights")
    flip(store.folder / STEP / "model.bin")
    with pytest.raises(IncompleteRun, match=r"model\.bin has changed"):
        store.path(STEP)


def test_the_old_step_comes_back_where_the_new_one_cannot_take_its_place(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    rename, target = os.replace, store.folder / STEP

    def refuse(source: Path, destination: Path) -> None:
        if destination == target and source.name != "old":
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DiskRefused, match=r"^run: the disk is full \(finished steps are kept"):
        publish(store, inputs=CHANGED, content="new")
    assert store.status(STEP, INPUTS).state == "finished" and (store.path(STEP) / "model.bin").read_text() == "weights"


def test_everything_is_on_disk_before_the_step_has_its_name(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, then the folders of their names, then the rename, then the folders above: else a power failure could lose it."""
    story: list[str] = []
    rename = os.replace

    def replace(source: Path, destination: Path) -> None:
        story.append(f"rename {Path(destination).name}")
        rename(source, destination)

    monkeypatch.setattr(os, "fsync", lambda handle: story.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}"))
    monkeypatch.setattr(os, "replace", replace)
    with store.locked(), store.publishing(STEP, INPUTS, {}) as folder:
        (folder / "logits").mkdir()
        (folder / "logits" / "part.bin").write_text("x")
    story = [re.sub(r"\.step\.json\..*tmp", "aside", entry).replace(folder.name, "work") for entry in story]
    record = ["sync aside", "rename step.json", "sync work"]
    above = ["sync colon-1", "sync stage_a", "sync run"]
    assert story == ["sync part.bin", "sync logits", "sync work", *record, "rename model", *above]


# -- a manifest that was damaged -------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"schema": 1, "task": "test"}'])
def test_steps_speak_for_a_run_without_its_manifest(store: RunStore, content: bytes | None) -> None:
    publish(store, inputs={**INPUTS, "precision": "bfloat16"})
    path = store.folder / "manifest.json"
    path.unlink() if content is None else path.write_bytes(content)
    known = store.manifest()
    assert (known["recovered"], known["kind"]) == ("is missing" if content is None else "was damaged", "run")
    assert known["arithmetic"] == {"precision": "bfloat16"}
    with pytest.raises(RunConflict, match="run: contains a run, not an adapted model"):
        RunStore(store.folder, ADAPTED_MODEL).refuse_foreign()
    publish(store, "stage_b", {"a": 1})
    assert store.manifest()["task"] == "test" and "recovered" not in store.manifest()
    assert store.content(STEP) is not None


def test_a_line_that_was_cut_spoils_no_other(store: RunStore) -> None:
    publish(store)
    path = store.folder / "events.jsonl"
    store.log(StepSkipped("a"))
    path.write_bytes(path.read_bytes()[:-9])
    store.log(StepSkipped("b"))
    cut, whole = path.read_bytes().splitlines()
    assert not is_checked_log_line(cut) and is_checked_log_line(whole) and json.loads(whole)["step"] == "b"
    assert not is_checked_log_line(whole.replace(b'"b"', b'"c"'))
