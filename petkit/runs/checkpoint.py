"""Checkpoints of a step under work, kept in the run folder until the step is published.

    RUN/checkpoints/<step>/00000100/state.safetensors, step.json

Each is published as a finished step is: written aside, hashed, and whole by one rename. It belongs to the
inputs it was made from and to the versions of what computed it; with others, the training would not end the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from petkit.crash_points import crash_point
from petkit.errors import IncompleteRun
from petkit.events import Listen, Notice
from petkit.runs.fingerprint import Inputs
from petkit.runs.provenance import package_versions
from petkit.runs.store import RunStore

_STATE_FILE = "state.safetensors"
_COMPUTING = ("petkit", "torch", "transformers", "accelerate")


class StepCheckpoints:
    """The checkpoints of one step; needs the store's lock.

    Args:
        store: the run folder.
        step: the step that is being worked on.
        inputs: what the step is made from.
        every: training steps between two checkpoints.
        listen: hears which checkpoints are of no use.
    """

    def __init__(self, store: RunStore, step: str, inputs: Inputs, every: int, listen: Listen) -> None:
        self._store, self._step, self._listen = store, step, listen
        self._parent = f"checkpoints/{step}"
        versions = package_versions()
        self._inputs: Inputs = {**inputs, **{f"version of {name}": versions[name] for name in _COMPUTING}}
        self.every = every

    def load(self) -> Mapping[str, Tensor] | None:
        """Return the state in the newest whole checkpoint made from the same inputs."""
        for folder in sorted(self._folders(), reverse=True):
            name, done = f"{self._parent}/{folder.name}", int(folder.name)
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
                    self._listen(Notice(self._step, f"goes on after {done:,} steps"))
                    return state
            self._listen(Notice(self._step, f"the checkpoint of {done:,} steps is not used: {why}"))
        return None

    def save(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep the state after ``step`` training steps, then remove all other checkpoints."""
        name = f"{step:08d}"
        with self._store.publishing(f"{self._parent}/{name}", self._inputs, {}) as folder:
            # Contiguous and on the processor, as the file needs it.
            crash_point("checkpoint: before write")
            save_file({key: value.cpu().contiguous() for key, value in state.items()}, folder / _STATE_FILE)
            crash_point("checkpoint: written")
        for other in self._folders():
            if other.name != name:
                self._remove(other)

    def clear(self) -> None:
        """Remove all checkpoints: the step is finished."""
        parent = self._store.folder / self._parent
        if parent.is_dir():
            self._remove(parent)
        while (parent := parent.parent) != self._store.folder and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()

    def _folders(self) -> list[Path]:
        parent = self._store.folder / self._parent
        return [entry for entry in parent.iterdir() if entry.name.isdecimal()] if parent.is_dir() else []

    def _remove(self, folder: Path) -> None:
        """Remove a folder; it leaves its place at once, so that no half of it is ever found there."""
        gone = Path(tempfile.mkdtemp(dir=self._store.scratch("checkpoints"))) / "old"
        crash_point("checkpoint: before one goes")
        os.replace(folder, gone)
        crash_point("checkpoint: one aside")
        shutil.rmtree(gone)
