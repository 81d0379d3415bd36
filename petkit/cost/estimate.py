"""Estimate of a run's time, memory and disk before it starts, by stage and in all.

Disk and memory come from formulas (:mod:`petkit.cost.disk_and_memory`). Time comes from steps of the same kind that are
finished in the run folder; where there are none, from a short measurement (:mod:`petkit.cost.timing`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from petkit.cost.disk_and_memory import Footprint, Sample, student_passes, teacher_passes
from petkit.cost.timing import Speed, time_models
from petkit.engine.device import Device
from petkit.errors import InvalidInput, Problem
from petkit.events import STAGES, Stage
from petkit.runs.layout import EVALUATION, SOFT_LABELS, STUDENT
from petkit.runs.step import Step
from petkit.runs.store import WORK, RunStore
from petkit.task.task import Task
from petkit.teachers.models import teacher_models
from petkit.units import duration, size

# Stage B without reading: per row, teacher and label.
_VOTE_SECONDS = 1e-7
# Bytes written, hashed and forced to disk in a second.
_WRITTEN_PER_SECOND = 200e6
_CLEARLY = 0.9
_BASELINES = "baselines/"
Basis = Literal["finished steps", "a short measurement", "finished steps and a short measurement"]


@dataclass(frozen=True)
class Cost:
    """Seconds, bytes of peak memory, and bytes written, of some steps."""

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Disk:
    """Disk space that a run needs, and that is free.

    Attributes:
        written: bytes that stay.
        passing: bytes needed for a while.
        checkpoints: bytes used for a while if there is room; a run goes on without them.
        free: bytes that are free where the run folder is.
    """

    written: int
    passing: int
    checkpoints: int
    free: int

    @property
    def needed(self) -> int:
        """Bytes that must be free."""
        return self.written + self.passing

    @property
    def is_clearly_too_little(self) -> bool:
        """Whether a run is refused: the estimate may be a little too high."""
        return self.free < _CLEARLY * self.needed

    def summary(self) -> str:
        """Return it as a line for people."""
        line = f"disk: {size(self.written)} to be written"
        line += f", {size(self.passing)} more while it works" if self.passing else ""
        line += f", up to {size(self.checkpoints)} for checkpoints" if self.checkpoints else ""
        line += f"; {size(self.free)} are free"
        if self.is_clearly_too_little:
            return f"{line}: too little, the run will not start"
        if self.free < self.needed:
            return f"{line}: perhaps too little"
        return f"{line}: too little for checkpoints" if self.free < self.needed + self.checkpoints else line


@dataclass(frozen=True)
class Estimate:
    """What the steps to do will take.

    Attributes:
        stages: those with something to do, in order; the memory of each is its own peak.
        total: sums, and the highest peak.
        timed: where the times come from.
        left_out: what is to be done and not in it.
    """

    stages: Mapping[Stage, Cost]
    total: Cost
    disk: Disk
    timed: Basis
    device: str
    left_out: tuple[str, ...] = ()

    def summary(self) -> list[str]:
        """Return it as lines for people."""
        lines = [f"{'estimate':12}{'time':>12}{'memory':>12}{'disk':>12}"]
        for name, cost in [
            *((f"stage {stage}" if len(stage) == 1 else stage, cost) for stage, cost in self.stages.items()),
            ("in all", self.total),
        ]:
            lines.append(f"{name:12}{duration(cost.seconds):>12}{size(cost.memory):>12}{size(cost.disk):>12}")
        lines.append(self.disk.summary())
        where = "" if self.device == "cpu" else f", memory is that of {self.device}"
        lines.append(f"A guess: disk to some per cent, memory to a third, time to a factor of two (from {self.timed}){where}.")
        lines += [f"Not counted: {', '.join(self.left_out)}."] if self.left_out else []
        return lines


def room_for(task: Task, store: RunStore, device: Device, todo: Sequence[Step]) -> Disk:
    """Return what the steps to do will write, and what there is.

    Raises:
        InvalidInput: that is clearly too little; with the numbers.
    """
    if not todo:
        return Disk(0, 0, 0, free_bytes(store.folder))
    disk = _disk(store, Footprint(task, device, Sample.of(task)), todo)
    if disk.is_clearly_too_little:
        needs = f"the run writes about {size(disk.written)}"
        needs += f", and about {size(disk.passing)} more while it works" if disk.passing else ""
        message = f"too little disk: {needs}; {size(disk.free)} are free"
        hint = "free some, choose another --out, or use fewer teachers.seeds; teachers.adapter: lora writes far less"
        raise InvalidInput([Problem.of_file(store.shown, message, hint)])
    return disk


def _disk(store: RunStore, footprint: Footprint, todo: Sequence[Step]) -> Disk:
    names = [step.name for step in todo]
    # What a killed run left is swept before anything is written.
    left = sum(Path(place, name).lstat().st_size for place, _, names in os.walk(store.folder / WORK) for name in names)
    free = free_bytes(store.folder) + left
    return Disk(sum(map(footprint.written, names)), footprint.passing(names), footprint.checkpoints(names), free)


def estimate(task: Task, store: RunStore, device: Device, steps: Sequence[Step], todo: Sequence[Step]) -> Estimate | None:
    """Return what the steps to do will take; None where there are none.

    Args:
        steps: every step of the pipeline; finished ones give the time of others of their kind.
        todo: those that the run will work on.
    """
    if not todo:
        return None
    sample = Sample.of(task)
    footprint = Footprint(task, device, sample)
    memory = {step.name: footprint.memory(step.name) for step in todo}
    disk = _disk(store, footprint, todo)
    recorded = _recorded(store, steps)
    known = {step.name: _known(step.name, recorded) for step in todo}
    missing = [name for name, seconds in known.items() if seconds is None and not name.startswith(_BASELINES)]
    timed: Basis = "finished steps"
    seconds = {name: found for name, found in known.items() if found is not None}
    if missing:
        timed = "finished steps and a short measurement" if seconds else "a short measurement"
        models = teacher_models(task.spec.model, task.spec.teachers.adapted, device, task.start_hash("teachers"))
        speed = time_models(task, device, models, sample)
        models.release()
        seconds |= {name: _seconds(name, task, speed) + footprint.written(name) / _WRITTEN_PER_SECOND for name in missing}
        seconds[missing[0]] += task.scans["unlabeled"].rows * speed.reading  # every text is read and tokenised once
    costs = {
        stage: _together([Cost(seconds.get(step.name, 0.0), memory[step.name], footprint.written(step.name)) for step in own])
        for stage in STAGES
        if (own := [step for step in todo if step.stage == stage])
    }
    total = _together(costs.values())
    left_out = tuple(step.name for step in todo if step.name not in seconds)
    return Estimate(costs, total, disk, timed, device.name, left_out)


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free where ``folder`` is or would be."""
    place = folder.absolute()
    while not os.path.exists(place):  # noqa: PTH110 (a Path raises where the name is too long for the system)
        place = place.parent
    return shutil.disk_usage(place).free


def _seconds(step: str, task: Task, speed: Speed) -> float:
    """Return how long a step takes by what was measured."""
    spec, rows = task.spec, task.scans["unlabeled"].rows
    training = speed.loading + spec.teachers.steps * speed.teacher_step * teacher_passes(spec.teachers)
    training += 2 * len(task.train) * speed.scoring  # its accuracy, before and after
    if step == SOFT_LABELS:
        return rows * (speed.reading + _VOTE_SECONDS * len(task.teachers) * len(task.labels))
    if step == STUDENT:
        return speed.loading + spec.student.steps * speed.student_step * student_passes(spec.student)
    if step == EVALUATION:
        asked = len(task.pvps) + sum(teacher.trained for teacher in task.teachers) + 1
        return asked * (speed.loading + task.scans["test"].rows * speed.scoring)
    if step.endswith("/model"):
        return training
    if step.endswith("/folds"):
        return training * min(spec.soft_labels.folds, len(task.train))
    return speed.loading + rows * speed.scoring


def _recorded(store: RunStore, steps: Iterable[Step]) -> dict[str, float]:
    """Return the seconds of the steps that are finished with the present settings."""
    found = {}
    for step in steps:
        took = store.facts(step.name).get("seconds")
        # What it was made from may hold other numbers by now: that takes no other time.
        status = store.status(step.name, step.all_inputs(store), unknown=step.needs)
        if isinstance(took, int | float) and status.state == "finished":
            found[step.name] = float(took)
    return found


def _known(step: str, recorded: Mapping[str, float]) -> float | None:
    """Return how long a step took before, or those of its kind in stage A."""
    if step in recorded:
        return recorded[step]
    kind = step.rpartition("/")[2]
    alike = [seconds for name, seconds in recorded.items() if name.startswith("stage_a/") and name.rpartition("/")[2] == kind]
    return fmean(alike) if alike and step.startswith("stage_a/") else None


def _together(costs: Iterable[Cost]) -> Cost:
    costs = list(costs)
    return Cost(sum(cost.seconds for cost in costs), max(cost.memory for cost in costs), sum(cost.disk for cost in costs))
