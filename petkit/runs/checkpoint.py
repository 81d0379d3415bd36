"""Work in progress that survives a kill: states of a training, and finished parts of a step that has many.

    RUN/checkpoints/<step>/00000100/state.safetensors, step.json       the state after 100 training steps
    RUN/checkpoints/<step>/parts/00000003/state.safetensors, step.json   the fourth shard or fold

Each is published as a finished step is: written aside, hashed, and whole by one rename. It belongs to the
inputs it was made from and to the versions of what computed it; with others, the step would not end the same.
All of a step's are removed once the step itself is published.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from petkit.errors import IncompleteRun
from petkit.events import Notice, OnEvent
from petkit.runs.fingerprint import Inputs
from petkit.runs.layout import CHECKPOINTS
from petkit.runs.provenance import COMPUTING, package_versions
from petkit.runs.signals import stop_if_requested, stop_requested
from petkit.runs.store import RunStore
from petkit.storage.atomic import lack_of_room
from petkit.storage.fault_points import crash_point

_STATE_FILE = "state.safetensors"


class _Kept:
    """Named sets of tensors of one step, each whole or not there.

    Args:
        store: the run folder, whose lock is held.
        step: the step that is being worked on.
        inputs: what the step is made from.
        on_event: hears what is of no use.
    """

    def __init__(self, store: RunStore, step: str, inputs: Inputs, on_event: OnEvent, parent: str) -> None:
        self._store, self._step, self._listen, self._parent = store, step, on_event, parent
        self._lacked = False  # room
        versions = package_versions()
        self._inputs: Inputs = {**inputs, **{f"version of {name}": versions[name] for name in COMPUTING}}

    def _read(self, number: int, what: str) -> dict[str, Tensor] | None:
        """Return what was kept under a number; where it is of no use, tell why."""
        name = f"{self._parent}/{number:08d}"
        status = self._store.status(name, self._inputs)
        why = f"made by other settings: {status.why}" if status.state == "stale" else status.why
        if status.state == "missing":
            why = "step.json is missing or damaged"
        elif status.state == "finished":
            try:
                state: dict[str, Tensor] = load_file(self._store.path(name) / _STATE_FILE)
            except IncompleteRun:
                why = f"{_STATE_FILE} has changed"
            else:
                return state
        self._listen(Notice(self._step, f"{what} is not used: {why}"))
        return None

    def _write(self, number: int, state: Mapping[str, Tensor], what: str) -> bool:
        """Keep tensors under a number, if they leave room for the step's result; say whether that was so."""
        try:
            self._refuse_last_room(sum(value.nbytes for value in state.values()))
            with self._store.publishing(f"{self._parent}/{number:08d}", self._inputs, {}) as folder:
                # Contiguous and on the processor, as the file needs it.
                crash_point("checkpoint: before write")
                save_file({key: value.cpu().contiguous() for key, value in state.items()}, folder / _STATE_FILE)
                crash_point("checkpoint: written")
        except Exception as error:
            lack = lack_of_room(error)
            if lack is None:
                raise
            if not self._lacked:
                self._listen(Notice(self._step, f"{what} is not kept: {lack}"))
            self._lacked = True
            return False
        return True

    def _refuse_last_room(self, size: int) -> None:
        """Leave at least as much room as is taken: what the step is about is written while this is still there."""
        if shutil.disk_usage(self._store.folder).free < 2 * size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _numbers(self) -> list[int]:
        parent = self._store.folder / self._parent
        return sorted(int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()) if parent.is_dir() else []


class StepCheckpoints(_Kept):
    """The states of one training; the newest is enough.

    Args:
        seconds: time between two checkpoints; 0 keeps every step's.
        fold: which training it is, where a step has several.
    """

    def __init__(
        self,
        store: RunStore,
        step: str,
        inputs: Inputs,
        seconds: float,
        on_event: OnEvent,
        *,
        fold: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, step, inputs, on_event, f"{CHECKPOINTS}/{step}" + ("" if fold is None else f"/fold-{fold}"))
        self._seconds, self._clock, self._last = seconds, clock, clock()

    def due(self, *, last: bool) -> bool:
        """Say whether it is time to keep the state: enough of it has passed, or a signal asked the run to stop."""
        return stop_requested() or (not last and self._clock() - self._last >= self._seconds)

    def load(self) -> Mapping[str, Tensor] | None:
        """Return the state in the newest whole checkpoint made from the same inputs."""
        for done in reversed(self._numbers()):
            state = self._read(done, f"the checkpoint of {_steps(done)}")
            if state is not None:
                self._listen(Notice(self._step, f"goes on after {_steps(done)}"))
                self._last = self._clock()
                return state
        return None

    def save(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep the state after ``step`` training steps, if there is room, then remove all other checkpoints.

        Raises:
            KeyboardInterrupt, SystemExit: a signal asked to stop.
        """
        kept = self._write(step, state, f"the checkpoint of {_steps(step)}")
        for other in self._numbers():
            if kept and other != step:
                _remove(self._store, f"{self._parent}/{other:08d}")
        self._last = self._clock()  # writing takes time too
        stop_if_requested()


class StepParts(_Kept):
    """The finished parts of one step, arrays of floats made one after another."""

    def __init__(self, store: RunStore, step: str, inputs: Inputs, on_event: OnEvent) -> None:
        super().__init__(store, step, inputs, on_event, f"{CHECKPOINTS}/{step}/parts")

    def load(self) -> Iterator[NDArray[np.float32]]:
        """Yield the parts from the first on, as far as they are whole and made from the same inputs."""
        done = 0
        for number in self._numbers():
            state = self._read(number, f"part {number + 1}") if number == done else None
            if state is None:
                break
            yield state["part"].numpy()
            done += 1
        if done:
            self._listen(Notice(self._step, f"goes on after {done} finished part{'s' if done > 1 else ''}"))

    def save(self, number: int, part: NDArray[np.float32]) -> None:
        """Keep a part, counted from 0, if there is room; those after one that is missing are of no use."""
        if not self._lacked:
            self._write(number, {"part": torch.from_numpy(np.ascontiguousarray(part, np.float32))}, f"part {number + 1}")


def _steps(number: int) -> str:
    return f"{number:,} step{'s' if number > 1 else ''}"


def is_begun(store: RunStore, step: str) -> bool:
    """Say whether something was kept of a step that is not finished."""
    return os.path.isdir(store.folder / CHECKPOINTS / step)  # noqa: PTH112 (False for an impossible name)


def clear_checkpoints(store: RunStore, step: str) -> None:
    """Remove all that was kept of a step: it is finished."""
    parent = store.folder / CHECKPOINTS / step
    if parent.is_dir():
        _remove(store, f"{CHECKPOINTS}/{step}")
    while (parent := parent.parent) != store.folder and parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()


def _remove(store: RunStore, name: str) -> None:
    """Remove a folder; it leaves its place at once, so that no half of it is ever found there."""
    gone = Path(tempfile.mkdtemp(dir=store.scratch("checkpoints"))) / "old"
    crash_point("checkpoint: before one goes")
    os.replace(store.folder / name, gone)
    crash_point("checkpoint: one aside")
    shutil.rmtree(gone)
