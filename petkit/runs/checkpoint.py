"""Checkpoints: states of a training, and finished parts of a long step, that survive a killed process.

    RUN/checkpoints/<step>/00000100/state.safetensors, step.json       the state after 100 training steps
    RUN/checkpoints/<step>/parts/00000003/state.safetensors, step.json   the fourth shard or fold

Each is published like a finished step. It is used only with the inputs and library versions it was made from: with others,
the step would end differently. All are removed once their step is published.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from petkit.errors import IncompleteRun
from petkit.events import Notice, OnEvent
from petkit.formatting import counted
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import CHECKPOINTS
from petkit.runs.provenance import COMPUTING, package_versions
from petkit.runs.signals import stop_if_requested, stop_requested
from petkit.runs.store import RunStore
from petkit.storage.atomic import lack_of_room
from petkit.storage.fault_points import crash_point

_STATE_FILE = "state.safetensors"


class _Checkpoints:
    """Numbered sets of tensors of the step in progress, each published atomically; what cannot be used or kept is reported."""

    place = ""  # in the folder of the step's checkpoints

    def __init__(self, store: RunStore, step: str, inputs: Inputs, on_event: OnEvent) -> None:
        self._store, self._step, self._on_event = store, step, on_event
        self._parent = f"{CHECKPOINTS}/{step}{self.place}"
        self._full = False  # the disk
        versions = package_versions()
        self._inputs: Inputs = {**inputs, **{f"version of {name}": versions[name] for name in COMPUTING}}

    def _read(self, number: int, what: str) -> dict[str, Tensor] | None:
        """Return the tensors of a number; where they cannot be used, report why and return None."""
        name = f"{self._parent}/{number:08d}"
        status = self._store.status(name, self._inputs)
        why = f"made with other settings: {status.why}" if status.state == "stale" else status.why
        if status.state == "missing":
            why = "step.json is missing or damaged"
        if status.state == "finished":
            try:
                return load_file(self._store.path(name) / _STATE_FILE)
            except IncompleteRun:
                why = f"{_STATE_FILE} has changed"
        self._on_event(Notice(self._step, f"{what} is not used: {why}"))
        return None

    def _write(self, number: int, state: Mapping[str, Tensor], what: str) -> bool:
        """Store tensors under a number, if they leave room for the step's result; return whether they did."""
        try:
            if self._store.free_bytes() < 2 * sum(value.nbytes for value in state.values()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with self._store.publishing(f"{self._parent}/{number:08d}", self._inputs, {}) as folder:
                crash_point("checkpoint: before write")
                save_file({key: value.cpu().contiguous() for key, value in state.items()}, folder / _STATE_FILE)
                crash_point("checkpoint: written")
        except Exception as error:
            lack = lack_of_room(error)
            if lack is None:
                raise
            if not self._full:
                self._on_event(Notice(self._step, f"{what} is not kept: {lack}"))
            self._full = True
            return False
        return True

    def _numbers(self) -> list[int]:
        parent = self._store.folder / self._parent
        return sorted(int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()) if parent.is_dir() else []


class StepCheckpoints(_Checkpoints):
    """The states of one training, of which the newest is kept.

    Args:
        seconds: time between two checkpoints; 0: after every step.
        fold: number of the training, where a step has several.
    """

    def __init__(
        self, store: RunStore, step: str, inputs: Inputs, seconds: float, on_event: OnEvent, *, fold: int | None = None
    ) -> None:
        self.place = "" if fold is None else f"/fold-{fold}"
        super().__init__(store, step, inputs, on_event)
        self._seconds, self._last = seconds, time.monotonic()

    def due(self, *, last: bool) -> bool:
        """Say whether to save the state now: enough time has passed, or a signal requested to stop."""
        return stop_requested() or (not last and time.monotonic() - self._last >= self._seconds)

    def load(self) -> Mapping[str, Tensor] | None:
        """Return the state in the newest whole checkpoint made from the same inputs."""
        for done in reversed(self._numbers()):
            state = self._read(done, f"the checkpoint of {counted(done, 'step')}")
            if state is not None:
                self._on_event(Notice(self._step, f"resumes after {counted(done, 'step')}"))
                self._last = time.monotonic()
                return state
        return None

    def save(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Save the state after ``step`` training steps, if there is room, then remove all other checkpoints; stop if requested."""
        kept = self._write(step, state, f"the checkpoint of {counted(step, 'step')}")
        for other in self._numbers():
            if kept and other != step:
                _remove(self._store, f"{self._parent}/{other:08d}")
        self._last = time.monotonic()  # writing takes time too
        stop_if_requested()


class StepParts(_Checkpoints):
    """The finished parts of one step: arrays of floats, made in order."""

    place = "/parts"

    def load(self) -> Iterator[NDArray[np.float32]]:
        """Yield the parts in order, up to the first that is missing, damaged or made from other inputs."""
        done = 0
        for number in self._numbers():
            state = self._read(number, f"part {number + 1}") if number == done else None
            if state is None:
                break
            yield state["part"].numpy()
            done += 1
        if done:
            self._on_event(Notice(self._step, f"resumes after {counted(done, 'finished part')}"))

    def save(self, number: int, part: NDArray[np.float32]) -> None:
        """Save a part, counted from 0, if there is room; parts after a missing one could not be used."""
        if not self._full:
            self._write(number, {"part": torch.from_numpy(np.ascontiguousarray(part, np.float32))}, f"part {number + 1}")


def clear_checkpoints(store: RunStore, step: str) -> None:
    """Remove all checkpoints of a step, which is finished."""
    parent = store.folder / CHECKPOINTS / step
    if parent.is_dir():
        _remove(store, f"{CHECKPOINTS}/{step}")
    while (parent := parent.parent) != store.folder and parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()


def _remove(store: RunStore, name: str) -> None:
    """Remove a folder; it is renamed first, so that no part of it remains in its place."""
    gone = Path(tempfile.mkdtemp(dir=store.scratch("checkpoints"))) / "old"
    crash_point("checkpoint: before one goes")
    os.replace(store.folder / name, gone)
    crash_point("checkpoint: one aside")
    shutil.rmtree(gone)
