"""One step of a run: what it depends on and the work that makes its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from petkit.events import Listen, Progress, Stage
from petkit.runs.fingerprint import Inputs
from petkit.runs.store import RunStore


@dataclass
class Job:
    """A step being worked on: the folder to fill, the finished steps to read, and the figures to record."""

    step: str
    folder: Path
    store: RunStore
    listen: Listen
    facts: dict[str, float | int | str] = field(default_factory=dict)

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        """Tell how far the work is."""
        self.listen(Progress(self.step, done, total, unit, note))


@dataclass(frozen=True)
class Step:
    """A named piece of work. It runs again only when ``inputs`` or the content of a step it ``needs`` change."""

    name: str
    stage: Stage
    inputs: Inputs
    work: Callable[[Job], None]
    needs: tuple[str, ...] = ()

    def all_inputs(self, store: RunStore) -> Inputs:
        """Return the step's own inputs and the content hashes of the steps it reads."""
        return {**self.inputs, **{need: store.content(need) for need in self.needs}}
