"""Checkpoints in the run folder: the newest whole one of the same inputs counts, every other one is reported and left alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from petkit.events import Event, Notice
from petkit.runs import checkpoint as checkpoint_module
from petkit.runs.checkpoint import StepCheckpoints, StepParts, clear_checkpoints
from petkit.runs.fingerprint import Inputs
from petkit.runs.store import RunStore

STEP = "stage_x/model"
INPUTS: Inputs = {"x.steps": 100, "model": "0123456789abcdef" * 4}


@pytest.fixture
def store(here: Path) -> Iterator[RunStore]:
    """A run folder whose lock is held."""
    made = RunStore(here / "run")
    with made.locked():
        yield made


@pytest.fixture
def heard() -> list[Event]:
    """What the checkpoints tell."""
    return []


def checkpoints(store: RunStore, heard: list[Event], inputs: Inputs = INPUTS) -> StepCheckpoints:
    return StepCheckpoints(RunStore(store.folder), STEP, inputs, 10, heard.append)


def state(value: float) -> dict[str, torch.Tensor]:
    return {"model.weight": torch.full((3, 2), value), "losses": torch.tensor([value], dtype=torch.float64)}


def loaded(store: RunStore, heard: list[Event], inputs: Inputs = INPUTS) -> float | None:
    """Return the value in the checkpoint that is used."""
    found = checkpoints(store, heard, inputs).load()
    return None if found is None else float(found["losses"][0])


def folder(store: RunStore, step: int) -> Path:
    return store.folder / "checkpoints" / STEP / f"{step:08d}"


def keep_two(store: RunStore, heard: list[Event]) -> None:
    """Leave two checkpoints, as a kill between writing one and removing the last does."""
    keeping = checkpoints(store, heard)
    keeping.save(10, state(1.0))
    shutil.copytree(folder(store, 10), store.folder / "aside")
    keeping.save(20, state(2.0))
    os.replace(store.folder / "aside", folder(store, 10))


def reported(heard: list[Event]) -> list[str]:
    assert all(isinstance(event, Notice) and event.step == STEP for event in heard)
    return [event.message for event in heard if isinstance(event, Notice)]


def test_what_is_kept_comes_back(store: RunStore, heard: list[Event]) -> None:
    assert checkpoints(store, heard).load() is None and heard == []
    checkpoints(store, heard).save(10, state(0.1))
    found = checkpoints(store, heard).load()
    assert found is not None and set(found) == set(state(0.1))
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in state(0.1).items())
    assert reported(heard) == ["resumes after 10 steps"]


def test_the_newest_is_used_and_older_ones_go(store: RunStore, heard: list[Event]) -> None:
    keep_two(store, heard)
    assert loaded(store, heard) == 2.0
    checkpoints(store, heard).save(30, state(3.0))
    assert [entry.name for entry in folder(store, 30).parent.iterdir()] == ["00000030"]
    assert loaded(store, heard) == 3.0


def test_a_step_kept_again_is_replaced(store: RunStore, heard: list[Event]) -> None:
    for value in (1.0, 2.0):
        checkpoints(store, heard).save(10, state(value))
    assert loaded(store, heard) == 2.0


def truncate(path: Path) -> None:
    (path / "state.safetensors").write_bytes((path / "state.safetensors").read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray((path / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "state.safetensors").write_bytes(content)


def spoil(path: Path) -> None:
    (path / "step.json").write_text('{"schema": 1, "step"')


DAMAGE = [
    pytest.param(truncate, r"state.safetensors has \d+ bytes instead of \d+", id="truncated"),
    pytest.param(flip, "state.safetensors has changed", id="bit flipped"),
    pytest.param(lambda path: (path / "state.safetensors").unlink(), "state.safetensors is missing", id="deleted"),
    pytest.param(lambda path: (path / "step.json").unlink(), "step.json is missing or damaged", id="no record"),
    pytest.param(spoil, "step.json is damaged", id="half a record"),
]


@pytest.mark.parametrize(("damage", "why"), DAMAGE)
def test_a_damaged_one_is_reported_and_the_one_before_used(damage: Any, why: str, store: RunStore, heard: list[Event]) -> None:
    keep_two(store, heard)
    damage(folder(store, 20))
    assert loaded(store, heard) == 1.0
    first, second = reported(heard)
    assert re.fullmatch(f"the checkpoint of 20 steps is not used: {why}", first)
    assert second == "resumes after 10 steps"
    checkpoints(store, heard).save(30, state(3.0))
    assert [entry.name for entry in folder(store, 30).parent.iterdir()] == ["00000030"]


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({**INPUTS, "x.steps": 200}, "x.steps 100 → 200"),
        ({**INPUTS, "model": "f" * 64}, "model changed"),
        ({**INPUTS, "x.seed": 1}, "x.seed added"),
    ],
)
def test_other_settings_do_not_use_it_and_leave_it_alone(inputs: Inputs, why: str, store: RunStore, heard: list[Event]) -> None:
    checkpoints(store, heard).save(10, state(1.0))
    assert loaded(store, heard, inputs) is None
    assert reported(heard) == [f"the checkpoint of 10 steps is not used: made with other settings: {why}"]
    assert loaded(store, heard) == 1.0


def test_other_versions_do_not_use_it(store: RunStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their arithmetic may differ in the last digit, and the end would not be the same."""
    checkpoints(store, heard).save(10, state(1.0))
    newer = {**checkpoint_module.package_versions(), "torch": "99.0"}
    monkeypatch.setattr(checkpoint_module, "package_versions", lambda: newer)
    assert loaded(store, heard) is None
    assert reported(heard) == [
        f"the checkpoint of 10 steps is not used: made with other settings: version of torch {torch.__version__} → 99.0"
    ]


def test_a_checkpoint_of_another_step_is_not_seen(store: RunStore, heard: list[Event]) -> None:
    checkpoints(store, heard).save(10, state(1.0))
    assert StepCheckpoints(store, "stage_x/other", INPUTS, 10, heard.append).load() is None
    os.replace(folder(store, 10).parent, store.folder / "checkpoints" / "stage_x" / "other")
    assert StepCheckpoints(store, "stage_x/other", INPUTS, 10, heard.append).load() is None


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_broken_attempt_leaves_the_last_one(
    moment: str, store: RunStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints(store, heard).save(10, state(1.0))
    with monkeypatch.context() as patch:

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        if moment == "writing":
            patch.setattr(checkpoint_module, "save_file", full)
        else:
            rename = os.replace
            patch.setattr(os, "replace", lambda old, new: full() if Path(new) == folder(store, 20) else rename(old, new))
        checkpoints(store, heard).save(20, state(2.0))
    assert reported(heard) == ["the checkpoint of 20 steps is not kept: the disk is full"]
    assert not list((store.folder / ".work" / "steps").iterdir())  # what was half-made gives its place back
    assert [entry.name for entry in folder(store, 10).parent.iterdir()] == ["00000010"]
    assert loaded(store, heard) == 1.0


def test_as_much_room_is_left_as_is_taken(store: RunStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's result is written while the checkpoint is there."""
    size = sum(value.nbytes for value in state(1.0).values())
    for free, kept in ((2 * size - 1, False), (2 * size, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        checkpoints(store, heard).save(10, state(1.0))
        assert (loaded(store, []) == 1.0) == kept
    assert reported(heard) == ["the checkpoint of 10 steps is not kept: the disk is full"]


def test_a_lack_of_room_is_reported_once_and_ends_the_parts(
    store: RunStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping, parts = checkpoints(store, heard), StepParts(store, STEP, INPUTS, heard.append)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        for step in (10, 20):
            keeping.save(step, state(1.0))
            parts.save(step // 10 - 1, np.zeros(3, np.float32))
    assert reported(heard) == ["the checkpoint of 10 steps is not kept: the disk is full", "part 1 is not kept: the disk is full"]
    keeping.save(30, state(2.0))  # there is room again
    parts.save(2, np.zeros(3, np.float32))
    assert loaded(store, []) == 2.0 and not (store.folder / "checkpoints" / STEP / "parts").exists()


def test_all_go_when_the_step_is_finished(store: RunStore, heard: list[Event]) -> None:
    keep_two(store, heard)
    other = StepCheckpoints(store, "stage_x/other", INPUTS, 10, heard.append)
    other.save(10, state(1.0))
    clear_checkpoints(store, STEP)
    assert [entry.name for entry in (store.folder / "checkpoints" / "stage_x").iterdir()] == ["other"]
    clear_checkpoints(store, "stage_x/other")
    assert not (store.folder / "checkpoints").exists()
    clear_checkpoints(store, "stage_x/other")


def test_record_names_the_inputs_and_versions(store: RunStore, heard: list[Event]) -> None:
    checkpoints(store, heard).save(10, state(1.0))
    record = json.loads((folder(store, 10) / "step.json").read_text())
    assert record["inputs"].items() > INPUTS.items()
    assert record["inputs"]["version of torch"] == torch.__version__


# -- when ----------------------------------------------------------------------------------------------


def test_time_must_pass_between_two(store: RunStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 59.0, 60.0, 61.0, 120.0, 121.0])
    monkeypatch.setattr(checkpoint_module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    keeping = StepCheckpoints(store, STEP, INPUTS, 60, heard.append)
    assert [keeping.due(last=False), keeping.due(last=False)] == [False, True]
    keeping.save(1, state(1.0))  # at 61
    assert [keeping.due(last=False), keeping.due(last=False)] == [False, True]
    assert not keeping.due(last=True)


def test_a_signal_that_asks_to_stop_is_time_even_after_the_last_step(
    store: RunStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "stop_requested", lambda: True)
    assert checkpoints(store, heard).due(last=False) and checkpoints(store, heard).due(last=True)


def test_trainings_of_one_step_do_not_meet(store: RunStore, heard: list[Event]) -> None:
    folds = [StepCheckpoints(store, STEP, INPUTS, 10, heard.append, fold=fold) for fold in (0, 1)]
    folds[0].save(10, state(1.0))
    assert folds[1].load() is None and checkpoints(store, heard).load() is None
    assert folds[0].load() is not None


# -- parts ---------------------------------------------------------------------------------------------


def parts(store: RunStore, heard: list[Event], inputs: Inputs = INPUTS) -> StepParts:
    return StepParts(RunStore(store.folder), STEP, inputs, heard.append)


def loaded_parts(store: RunStore, heard: list[Event], inputs: Inputs = INPUTS) -> list[list[list[float]]]:
    return [part.tolist() for part in parts(store, heard, inputs).load()]


def test_parts_come_back_in_order(store: RunStore, heard: list[Event]) -> None:
    assert loaded_parts(store, heard) == [] and heard == []
    for number in (0, 1, 2):
        parts(store, heard).save(number, np.full((2, 1), number, np.float32))
    assert loaded_parts(store, heard) == [[[0.0], [0.0]], [[1.0], [1.0]], [[2.0], [2.0]]]
    assert reported(heard) == ["resumes after 3 finished parts"]
    assert loaded_parts(store, heard, {**INPUTS, "x.steps": 200}) == []


@pytest.mark.parametrize(("damage", "why"), DAMAGE)
def test_parts_after_a_damaged_one_are_made_again(damage: Any, why: str, store: RunStore, heard: list[Event]) -> None:
    """A row must never be taken for another."""
    for number in (0, 1, 2):
        parts(store, heard).save(number, np.full((2, 1), number, np.float32))
    damage(store.folder / "checkpoints" / STEP / "parts" / "00000001")
    assert loaded_parts(store, heard) == [[[0.0], [0.0]]]
    first, second = reported(heard)
    assert re.fullmatch(f"part 2 is not used: {why}", first)
    assert second == "resumes after 1 finished part"


def test_a_gap_ends_what_is_used(store: RunStore, heard: list[Event]) -> None:
    for number in (0, 2):
        parts(store, heard).save(number, np.full((2, 1), number, np.float32))
    assert loaded_parts(store, heard) == [[[0.0], [0.0]]]
