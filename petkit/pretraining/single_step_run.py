"""A run folder that holds one step only and no pipeline's stages: an adapted model, a pretrained prompt.

It goes on where a killed run stopped, is not made twice, and is never replaced by one made with other settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from petkit.config.loader import Pipeline, dump_spec
from petkit.engine.device import Device, choose_device, quick_collections
from petkit.errors import RunConflict
from petkit.events import Event, Notice, OnEvent, Progress, RunStarted, StepSkipped
from petkit.runs.checkpoint import clear_checkpoints
from petkit.runs.fingerprint import Inputs
from petkit.runs.provenance import now
from petkit.runs.resume import MOVED, environment, moved_from, refuse_resume
from petkit.runs.signals import stopping_gently
from petkit.runs.step import Job, carry_out
from petkit.runs.store import RunStore

Work: TypeAlias = Callable[[Job, Device], None]


@dataclass(frozen=True)
class LoneStep:
    """What is to be made.

    Attributes:
        name: of its folder in the run folder.
        kind: what the run folder will hold (see :mod:`petkit.runs.store`).
        inputs: gives what it is made from, for an arithmetic.
        work: makes its files.
    """

    name: str
    kind: str
    inputs: Callable[[Device], Inputs]
    work: Work


@dataclass(frozen=True)
class Made:
    """What was made: its folder, whether there was work to do, and the figures of its making."""

    folder: Path
    ran: bool
    facts: dict[str, Any]


def make(
    step: LoneStep, pipeline: Pipeline, folder: str | Path, max_length: int, on_event: OnEvent, resume: str = "auto"
) -> Made:
    """Make the step in its run folder, unless it is there already.

    Args:
        max_length: tokens per row that were really used.
        resume: see :func:`petkit.runs.resume.refuse_resume`.

    Raises:
        RunConflict: the folder is in use, holds something else, or a step made with other settings.
    """
    store = RunStore(folder, step.kind)
    store.refuse_foreign()
    device = choose_device(pipeline.spec.compute, store.manifest().get("arithmetic"))
    refuse_resume(store, resume, device)
    inputs = step.inputs(device)

    def tell(event: Event) -> None:
        if not isinstance(event, Progress):
            store.log(event)
        on_event(event)

    with store.locked(), quick_collections(), stopping_gently(lambda message: on_event(Notice(step.name, message))):
        status = store.status(step.name, inputs)
        if status.state == "stale":
            raise RunConflict(
                f"{store.shown}: made with other settings: {status.why} (choose another --out, or delete the folder to replace it)"
            )
        if status.state == "finished":
            clear_checkpoints(store, step.name)
            if not store.is_described():
                _describe(store, pipeline, device, max_length)
            on_event(StepSkipped(step.name))
        else:
            moved = moved_from(store.manifest(), device)
            _describe(store, pipeline, device, max_length)
            tell(RunStarted(1))
            if moved:
                tell(Notice(step.name, MOVED.format(moved)))
            keep_every = 60 * pipeline.spec.compute.checkpoint_minutes
            carry_out(step.name, status.why, inputs, lambda job: step.work(job, device), store, keep_every, tell)
        return Made(store.path(step.name), status.state != "finished", store.facts(step.name))


def _describe(store: RunStore, pipeline: Pipeline, device: Device, max_length: int) -> None:
    store.write_manifest(
        {
            "kind": store.kind,
            "task": pipeline.spec.task,
            "created": store.manifest().get("created", now()),
            **environment(device, store.manifest()),
        }
    )
    store.write_text("config.resolved.yaml", dump_spec(pipeline.spec.model_copy(update={"max_length": max_length})))
