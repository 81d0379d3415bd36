"""The method in one place: A → B → C → evaluation, each a list of steps that run only when they must.

pipeline file ─► Workload (everything checked) ─► steps ─► plan ─► run folder
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from petkit.errors import IncompleteRun, RunConflict
from petkit.events import Event, Listen, Notice, Progress, RunStarted, StepFinished, StepSkipped, StepStarted, ignore
from petkit.lm.arithmetic import Arithmetic, choose_arithmetic, release_memory
from petkit.runs.provenance import machine, now, package_versions
from petkit.runs.store import RunStore
from petkit.spec.loader import Pipeline, dump_spec
from petkit.stages import a_teachers, b_soft_labels, c_student, evaluation
from petkit.stages.step import STAGES, Job, Stage, Step
from petkit.stages.workload import Workload


@dataclass(frozen=True)
class PlannedStep:
    """What a run would do with a step, and why."""

    step: str
    stage: Stage
    action: Literal["run", "skip", "stale"]
    why: str


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, the steps that were worked on, and the metrics on the test set (None without one)."""

    folder: Path
    ran: tuple[str, ...]
    metrics: dict[str, Any] | None

    @property
    def student(self) -> Path:
        """The classifier's folder, which ``transformers.pipeline("text-classification", …)`` loads."""
        return self.folder / "stage_c" / "model"


def all_steps(work: Workload, arithmetic: Arithmetic) -> list[Step]:
    """Return every step of the pipeline in order."""
    return [
        *a_teachers.steps(work, arithmetic),
        *b_soft_labels.steps(work),
        *c_student.steps(work, arithmetic),
        *evaluation.steps(work, arithmetic),
    ]


def plan(steps: Sequence[Step], store: RunStore, force: str | None = None) -> list[PlannedStep]:
    """Say what a run would do, without doing it.

    Args:
        force: None, ``"stale"`` (redo what other settings made), a stage to redo, or ``"all"``.
    """
    planned: list[PlannedStep] = []
    renewed: set[str] = set()
    for step in steps:
        waits = [need for need in step.needs if need in renewed]
        # What a renewed step will hold is not known yet: it makes no step stale before it is there.
        status = store.status(step.name, step.all_inputs(store), unknown=waits)
        action: Literal["run", "skip", "stale"] = "run"
        if force in (step.stage, "all"):
            why = "forced"
        elif status.state == "stale":
            action = "stale" if force is None else "run"
            why = f"stale: {status.why}"
        elif status.state != "finished":
            why = status.why
        elif waits:
            why = f"after {waits[0]}, if that changes"
        else:
            action, why = "skip", "finished"
        if action != "skip":
            renewed.add(step.name)
        planned.append(PlannedStep(step.name, step.stage, action, why))
    return planned


def preview(
    pipeline: Pipeline, folder: str | Path, *, stages: Sequence[Stage] = STAGES, force: str | None = None
) -> list[PlannedStep]:
    """Say what :func:`run` would do with these arguments; writes nothing and raises as it would for bad input."""
    work, store = Workload(pipeline), RunStore(folder)
    store.refuse_foreign()
    steps = all_steps(work, arithmetic_of(work, store))
    return [entry for entry in plan(steps, store, force) if entry.stage in stages]


def run(
    pipeline: Pipeline,
    folder: str | Path,
    *,
    stages: Sequence[Stage] = STAGES,
    force: str | None = None,
    listen: Listen = ignore,
) -> RunResult:
    """Run a pipeline, or some of its stages, into a run folder.

    Args:
        stages: which stages to work on; the others must be finished where they are needed.
        force: see :func:`plan`.
        listen: hears every event.

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        RunConflict: the folder is in use, no run folder, or holds steps made by other settings.
        IncompleteRun: a stage that was not asked for is not finished.
    """
    work = Workload(pipeline)
    store = RunStore(folder)
    store.refuse_foreign()
    arithmetic = arithmetic_of(work, store)
    steps = all_steps(work, arithmetic)
    whole = plan(steps, store, force)
    planned = [entry for entry in whole if entry.stage in stages]
    _refuse_stale(planned, store)
    _refuse_unready(steps, store, stages)
    with store.locked():
        _describe(store, work, arithmetic)
        work.scratch = store.scratch("tokens")

        def tell(event: Event) -> None:
            if not isinstance(event, Progress):
                store.log(event)
            listen(event)

        tell(RunStarted(sum(entry.action != "skip" for entry in planned)))
        _tell_stale_sources(whole, stages, tell)
        ran = [step.name for step in steps if step.stage in stages and _advance(step, store, force, tell)]
    return RunResult(store.folder, tuple(ran), metrics_of(store) if "evaluation" in stages else None)


def arithmetic_of(work: Workload, store: RunStore) -> Arithmetic:
    """Choose device and precision; a run keeps the precision it began with, so that it resumes to the same numbers."""
    compute = work.spec.compute
    begun = store.manifest().get("arithmetic", {})
    if compute.precision == "auto" and begun.get("precision") in ("float32", "bfloat16"):
        chosen = choose_arithmetic(compute.model_copy(update={"precision": begun["precision"]}))
        return Arithmetic(chosen.device, chosen.precision, chosen.threads, begun.get("matmul_speedup", 0.0))
    return choose_arithmetic(compute)


def metrics_of(store: RunStore) -> dict[str, Any] | None:
    """Return the finished evaluation of a run, or None."""
    return evaluation.read_metrics(store)


def _advance(step: Step, store: RunStore, force: str | None, listen: Listen) -> bool:
    """Bring one step up to date; say whether there was work to do."""
    inputs = step.all_inputs(store)
    status = store.status(step.name, inputs)
    forced = force in (step.stage, "all")
    if status.state == "finished" and not forced:
        listen(StepSkipped(step.name))
        return False
    listen(StepStarted(step.name, "forced" if forced else status.why))
    started = time.monotonic()
    facts: dict[str, float | int | str] = {}
    with store.publishing(step.name, inputs, facts) as folder:
        step.work(Job(step.name, folder, store, listen, facts))
        facts["seconds"] = round(time.monotonic() - started, 3)
    release_memory()
    listen(StepFinished(step.name, time.monotonic() - started, facts))
    return True


def _refuse_stale(planned: Sequence[PlannedStep], store: RunStore) -> None:
    stale = [entry for entry in planned if entry.action == "stale"]
    if not stale:
        return
    lines = [f"{store.shown}: made by other settings:"]
    lines += [f"  {entry.step}: {entry.why}" for entry in stale[:10]]
    if len(stale) > 10:
        lines.append(f"  … and {len(stale) - 10} more steps")
    lines.append("(--force does these steps again and replaces them; --out FOLDER starts a new run and keeps them)")
    raise RunConflict("\n".join(lines))


def _refuse_unready(steps: Sequence[Step], store: RunStore, stages: Sequence[Stage]) -> None:
    """Refuse stages whose inputs neither exist nor will be made in this run."""
    coming = {step.name for step in steps if step.stage in stages}
    for step in steps:
        for need in step.needs:
            if step.stage in stages and need not in coming and store.content(need) is None:
                why = f"{step.name} needs {need}, which is not finished"
                raise IncompleteRun(f"{store.shown}: {why} (run petkit {_command(need)} first)")


def _tell_stale_sources(whole: Sequence[PlannedStep], stages: Sequence[Stage], listen: Listen) -> None:
    """Say which steps of stages that were not asked for are read although other settings made them."""
    last = max(STAGES.index(stage) for stage in stages)
    earlier = [entry for entry in whole if entry.stage not in stages and STAGES.index(entry.stage) < last]
    stale = [entry for entry in earlier if entry.why.startswith("stale")]
    if stale:
        more = f", and {len(stale) - 1} more like it" if len(stale) > 1 else ""
        listen(Notice(stale[0].step, f"used as it is, though {stale[0].why}{more}"))


def _describe(store: RunStore, work: Workload, arithmetic: Arithmetic) -> None:
    before = store.manifest()
    store.write_manifest(
        {
            "task": work.spec.task,
            "labels": work.labels,
            "data": work.reading,
            "created": before.get("created", now()),
            "arithmetic": arithmetic.record(),
            "versions": package_versions(),
            "machine": machine(),
        }
    )
    store.write_text("config.resolved.yaml", dump_spec(work.spec))


def _command(step: str) -> str:
    return "stage-" + {"stage_a": "a", "stage_b": "b", "stage_c": "c"}[step.split("/")[0]]
