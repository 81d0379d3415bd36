"""Estimate of a run's time, memory and disk before it starts, by stage and in total.

Times come from steps of the same kind that are finished in the run folder; where there are none, from a short measurement.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Literal

from petkit.cost.step_costs import StepCosts
from petkit.engine.device import Device
from petkit.errors import InvalidInput, Problem
from petkit.events import STAGES, Stage
from petkit.runs.step import Step
from petkit.runs.store import WORK, RunStore
from petkit.task.task import Task
from petkit.units import duration, size

_CLEARLY = 0.9
Basis = Literal["finished steps", "a short measurement", "finished steps and a short measurement"]


@dataclass(frozen=True)
class Cost:
    """Seconds, bytes of peak memory, and bytes written, of some steps."""

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Disk:
    """Disk space that a run needs, and that is free where its folder is; a run does without ``checkpoints``."""

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
        """One line for the terminal."""
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
    """Costs of the steps to do, by stage and in total; ``left_out`` names the steps whose time is not counted."""

    stages: Mapping[Stage, Cost]
    total: Cost
    disk: Disk
    timed: Basis
    device: str
    left_out: tuple[str, ...] = ()

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        lines = [f"{'estimate':12}{'time':>12}{'memory':>12}{'disk':>12}"]
        named = [(f"stage {stage}" if len(stage) == 1 else stage, cost) for stage, cost in self.stages.items()]
        for name, cost in [*named, ("in all", self.total)]:
            lines.append(f"{name:12}{duration(cost.seconds):>12}{size(cost.memory):>12}{size(cost.disk):>12}")
        lines.append(self.disk.summary())
        where = "" if self.device == "cpu" else f", memory is that of {self.device}"
        lines.append(f"A guess: disk to some per cent, memory to a third, time to a factor of two (from {self.timed}){where}.")
        return lines + ([f"Not counted: {', '.join(self.left_out)}."] if self.left_out else [])


def room_for(task: Task, store: RunStore, device: Device, todo: Sequence[Step]) -> Disk:
    """Return the disk space that the steps to do need, and what is free.

    Raises:
        InvalidInput: that is clearly too little; with the numbers.
    """
    if not todo:
        return Disk(0, 0, 0, free_bytes(store.folder))
    disk = _disk(store, StepCosts(task, device), todo)
    if disk.is_clearly_too_little:
        needs = f"the run writes about {size(disk.written)}"
        needs += f", and about {size(disk.passing)} more while it works" if disk.passing else ""
        message = f"too little disk: {needs}; {size(disk.free)} are free"
        hint = "free some, choose another --out, or use fewer teachers.seeds; teachers.adapter: lora writes far less"
        raise InvalidInput([Problem.of_file(store.shown, message, hint)])
    return disk


def _disk(store: RunStore, costs: StepCosts, todo: Sequence[Step]) -> Disk:
    names = [step.name for step in todo]
    # What a killed run left is removed before anything is written.
    left = sum(Path(place, name).lstat().st_size for place, _, files in os.walk(store.folder / WORK) for name in files)
    written = sum(map(costs.written, names))
    return Disk(written, costs.passing(names), costs.checkpoints(names), free_bytes(store.folder) + left)


def estimate(task: Task, store: RunStore, device: Device, steps: Sequence[Step], todo: Sequence[Step]) -> Estimate | None:
    """Return the costs of the steps to do; None where there are none.

    Args:
        steps: every step of the pipeline; finished ones give the time of others of their kind.
        todo: those that the run will work on.
    """
    if not todo:
        return None
    costs = StepCosts(task, device)
    memory, disk = {step.name: costs.memory(step.name) for step in todo}, _disk(store, costs, todo)
    seconds = _known(store, steps, todo)
    missing = [step.name for step in todo if step.name not in seconds and not step.name.startswith("baselines/")]
    timed: Basis = "finished steps"
    if missing:
        timed = "finished steps and a short measurement" if seconds else "a short measurement"
        speed = costs.measure()
        seconds |= {name: costs.seconds(name, speed) for name in missing}
        seconds[missing[0]] += costs.rows * speed.reading  # every text is read and tokenised once
    stages = {
        stage: _together([Cost(seconds.get(name, 0.0), memory[name], costs.written(name)) for name in own])
        for stage in STAGES
        if (own := [step.name for step in todo if step.stage == stage])
    }
    left_out = tuple(step.name for step in todo if step.name not in seconds)
    return Estimate(stages, _together(stages.values()), disk, timed, device.name, left_out)


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free where ``folder`` is or would be."""
    place = folder.absolute()
    while not os.path.exists(place):  # noqa: PTH110 (a Path raises where the name is too long for the system)
        place = place.parent
    return shutil.disk_usage(place).free


def _known(store: RunStore, steps: Sequence[Step], todo: Sequence[Step]) -> dict[str, float]:
    """Return the seconds of steps to do: their own or, in stage A, the mean of their kind, made with the present settings."""
    recorded = {}
    for step in steps:
        took = store.facts(step.name).get("seconds")
        # What it was made from may have changed since: that takes the same time.
        status = store.status(step.name, step.all_inputs(store), unknown=step.needs)
        if isinstance(took, int | float) and status.state == "finished":
            recorded[step.name] = float(took)
    kinds: dict[str, list[float]] = {}
    for name, took in recorded.items():
        kinds.setdefault(_kind(name), []).append(took)
    known = {step.name: recorded.get(step.name, fmean(kinds.get(_kind(step.name), [nan]))) for step in todo}
    return {name: seconds for name, seconds in known.items() if not isnan(seconds)}


def _kind(step: str) -> str:
    """Return what the steps of stage A that take the same time have in common; the name of any other step."""
    return step.rpartition("/")[2] if step.startswith("stage_a/") else step


def _together(costs: Collection[Cost]) -> Cost:
    return Cost(sum(cost.seconds for cost in costs), max(cost.memory for cost in costs), sum(cost.disk for cost in costs))
