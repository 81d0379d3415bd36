"""A run folder of one step: an adapted model, a pretrained prompt.

It resumes where a killed run stopped, is not made twice, and is never replaced by one made with other settings.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from petkit.config.loader import Pipeline, dump_spec
from petkit.engine.device import EMULATED, Device, choose_device, emulates
from petkit.engine.training_loop import own_random_numbers
from petkit.errors import RunConflict
from petkit.events import Notice, OnEvent, RunStarted, StepSkipped, report_notes
from petkit.pretraining.unlabeled_texts import UnlabeledTexts
from petkit.runs.checkpoint import clear_checkpoints
from petkit.runs.planning import refuse_resume
from petkit.runs.provenance import MOVED, moved_from
from petkit.runs.step import Job, at_work, carry_out
from petkit.runs.store import RunStore


@dataclass(frozen=True)
class SingleStepResult:
    """The outcome of such a run: the step's folder, whether there was work to do, and the figures of its training."""

    STEP: ClassVar[str]  # the step's name, and that of its folder in the run folder
    KIND: ClassVar[str]  # of the run folder (see :mod:`petkit.runs.store`)
    # Of a pipeline that uses the ``path`` of the step's folder, or the path ``quoted`` where YAML needs it.
    SETTING: ClassVar[str]

    folder: Path
    ran: bool
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {self.STEP: str(self.folder), "ran": self.ran, **self.facts}

    def summary(self, pipeline: Path) -> str:
        """Return whether it helped, and the command that uses it."""
        facts, held_out, path = self.facts, f"{self.facts['held_out_rows']:,} held-out rows", str(self.folder)
        quoted = path if re.fullmatch(r"[\w./-]+", path) else json.dumps(path, ensure_ascii=False)
        command = ["petkit", "run", str(pipeline), "--set", self.SETTING.format(path=path, quoted=quoted)]
        lines = [f"{self.STEP}: {path}", f"use it: {shlex.join(command)}"]
        if "perplexity_before" in facts:
            lines.insert(0, f"perplexity on {held_out}: {facts['perplexity_before']:.1f} → {facts['perplexity_after']:.1f}")
        if "accuracy_before" in facts:
            change = f"{100 * facts['accuracy_before']:.1f} % → {100 * facts['accuracy_after']:.1f} %"
            lines.insert(0, f"next-sentence accuracy in pairs from {held_out}: {change}")
        return "\n".join(lines)


Result = TypeVar("Result", bound=SingleStepResult)


def open_run(kind: str, pipeline: Pipeline, folder: str | Path, resume: str) -> tuple[RunStore, Device]:
    """Return a run folder of this kind and where to work; refuse what must not start, before a model is downloaded or loaded."""
    store = RunStore(folder, kind)
    store.refuse_foreign()
    device = choose_device(pipeline.spec.compute, store.manifest())
    refuse_resume(store, resume, device.record())
    return store, device


def run_single_step(
    result: type[Result],
    texts: UnlabeledTexts,
    work: Callable[[Job, Device], None],
    store: RunStore,
    device: Device,
    on_event: OnEvent,
) -> Result:
    """Do the ``work``, which trains and writes the files, in a run folder, unless it is finished."""
    pipeline, name = texts.pipeline, result.STEP
    inputs = texts.inputs(device)
    facts: dict[str, Any] = {"kind": result.KIND, "task": pipeline.spec.task}
    facts |= {"revisions": dict(pipeline.revisions)} if pipeline.revisions else {}
    config = dump_spec(pipeline.spec.model_copy(update={"max_length": texts.max_length}))
    with at_work(store, name, on_event) as report, device.in_use(), own_random_numbers(device):
        status = store.status(name, inputs)
        if status.state == "stale":
            hint = "choose another --out, or delete the folder to replace it"
            raise RunConflict(f"{store.shown}: made with other settings: {status.why} ({hint})")
        if status.state == "finished":
            clear_checkpoints(store, name)
            if not store.is_described():
                store.describe(facts, device.record(), config)
            on_event(StepSkipped(name))
        else:
            moved = moved_from(store.manifest(), device.record())
            store.describe(facts, device.record(), config)
            report(RunStarted(1))
            report_notes(texts.scan.notes, report)
            if moved:
                report(Notice(name, MOVED.format(moved)))
            if emulates(device):
                report(Notice(name, EMULATED))
            keep_every = 60 * pipeline.spec.compute.checkpoint_minutes
            carry_out(name, status.why, inputs, lambda job: work(job, device), store, keep_every, report)
        return result(store.path(name), status.state != "finished", store.facts(name))
