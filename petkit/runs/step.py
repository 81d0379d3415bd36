"""One step of a run: its inputs and the work that makes its files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from petkit.engine.device import quick_collections
from petkit.events import Event, Notice, OnEvent, Progress, Stage, StepFinished, StepStarted
from petkit.runs.checkpoint import StepCheckpoints, StepParts, clear_checkpoints
from petkit.runs.fingerprint import Inputs
from petkit.runs.signals import stop_if_requested, stopping_gently
from petkit.runs.store import RunStore


@dataclass
class Job:
    """A step in progress: the folder to fill, the finished steps to read, and the figures to record.

    Attributes:
        inputs: the inputs of the step and of its checkpoints.
        keep_every: seconds between two checkpoints of a training.
    """

    step: str
    folder: Path
    store: RunStore
    on_event: OnEvent
    inputs: Inputs
    keep_every: float
    facts: dict[str, float | int | str] = field(default_factory=dict)

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        """Report progress; leave here, between two batches, if a signal requested it."""
        self.on_event(Progress(self.step, done, total, unit, note))
        stop_if_requested()

    def trained(self, done: int, total: int, loss: float) -> None:
        """Report the progress of a training, which leaves at its checkpoints."""
        self.on_event(Progress(self.step, done, total, "steps", f"loss {loss:.3f}"))

    def checkpoints(self, fold: int | None = None) -> StepCheckpoints:
        """Return the checkpoints of a training of this step; ``fold`` numbers several trainings."""
        return StepCheckpoints(self.store, self.step, self.inputs, self.keep_every, self.on_event, fold=fold)

    def parts(self) -> StepParts:
        """Return the finished parts of this step."""
        return StepParts(self.store, self.step, self.inputs, self.on_event)


def carry_out(
    name: str, why: str, inputs: Inputs, work: Callable[[Job], None], store: RunStore, keep_every: float, on_event: OnEvent
) -> None:
    """Do the work of a step, necessary because of ``why``, publish it and remove its checkpoints."""
    on_event(StepStarted(name, why))
    started = time.monotonic()
    facts: dict[str, float | int | str] = {}
    with store.publishing(name, inputs, facts) as folder:
        work(Job(name, folder, store, on_event, inputs, keep_every, facts))
        facts["seconds"] = round(time.monotonic() - started, 3)
    clear_checkpoints(store, name)
    on_event(StepFinished(name, time.monotonic() - started, facts))


@contextmanager
def at_work(store: RunStore, place: str, on_event: OnEvent) -> Iterator[OnEvent]:
    """Lock a run folder and stop gently at a signal, which is reported at ``place``.

    Yields what takes events in turn, and logs them in the run folder as well, all but progress.
    """

    def report(event: Event) -> None:
        if not isinstance(event, Progress):
            store.log(event)
        on_event(event)

    with store.locked(), quick_collections(), stopping_gently(lambda message: on_event(Notice(place, message))):
        yield report


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
