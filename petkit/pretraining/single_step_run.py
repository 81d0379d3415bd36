"""A run folder that holds one step only and no pipeline's stages: an adapted model, a pretrained prompt.

It goes on where a killed run stopped, is not made twice, and is never replaced by one made with other settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from petkit.config.loader import dump_spec
from petkit.engine.device import Device, choose_device, quick_collections
from petkit.errors import RunConflict
from petkit.events import Event, Notice, OnEvent, Progress, RunStarted, StepSkipped
from petkit.pretraining.unlabeled_texts import UnlabeledTexts
from petkit.runs.checkpoint import clear_checkpoints
from petkit.runs.fingerprint import Inputs
from petkit.runs.resume import MOVED, describe, moved_from, refuse_resume
from petkit.runs.signals import stopping_gently
from petkit.runs.step import Job, carry_out
from petkit.runs.store import RunStore


@dataclass(frozen=True)
class SingleStepResult:
    """The outcome of such a run: the step's folder, whether there was work to do, and the figures of its training."""

    STEP: ClassVar[str]  # the step's name, and that of its folder in the run folder

    folder: Path
    ran: bool
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {self.STEP: str(self.folder), "ran": self.ran, **self.facts}


Result = TypeVar("Result", bound=SingleStepResult)


def run_single_step(
    result: type[Result],
    kind: str,
    texts: UnlabeledTexts,
    settings: Inputs,
    work: Callable[[Job, Device], None],
    folder: str | Path,
    on_event: OnEvent,
    resume: str,
) -> Result:
    """Train on unlabelled texts in a run folder, unless it is finished.

    Args:
        kind: of the run folder (see :mod:`petkit.runs.store`).
        settings: the inputs of the step in addition to those of the texts.
        work: trains, and writes the files.
        resume: see :func:`petkit.runs.resume.refuse_resume`.

    Raises:
        RunConflict: the folder is in use, contains something else, or a step made by other settings.
    """
    pipeline, name = texts.pipeline, result.STEP
    store = RunStore(folder, kind)
    store.refuse_foreign()
    device = choose_device(pipeline.spec.compute, store.manifest().get("arithmetic"))
    refuse_resume(store, resume, device)
    inputs, facts = {**texts.inputs(device), **settings}, {"kind": kind, "task": pipeline.spec.task}
    config = dump_spec(pipeline.spec.model_copy(update={"max_length": texts.max_length}))

    def report(event: Event) -> None:
        if not isinstance(event, Progress):
            store.log(event)
        on_event(event)

    with store.locked(), quick_collections(), stopping_gently(lambda message: on_event(Notice(name, message))):
        status = store.status(name, inputs)
        if status.state == "stale":
            raise RunConflict(
                f"{store.shown}: made with other settings: {status.why} (choose another --out, or delete the folder to replace it)"
            )
        if status.state == "finished":
            clear_checkpoints(store, name)
            if not store.is_described():
                describe(store, facts, device, config)
            on_event(StepSkipped(name))
        else:
            moved = moved_from(store.manifest(), device)
            describe(store, facts, device, config)
            report(RunStarted(1))
            if moved:
                report(Notice(name, MOVED.format(moved)))
            keep_every = 60 * pipeline.spec.compute.checkpoint_minutes
            carry_out(name, status.why, inputs, lambda job: work(job, device), store, keep_every, report)
        return result(store.path(name), status.state != "finished", store.facts(name))
