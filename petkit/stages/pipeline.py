"""The method in one place: A → B → C → evaluation, each a list of steps that run only when they must.

pipeline file ─► Workload (everything checked) ─► preparation, if any ─► steps ─► plan ─► run folder
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petkit.config.loader import Pipeline, dump_spec
from petkit.cost.estimate import room_for
from petkit.engine.device import Arithmetic, choose_arithmetic, release_memory
from petkit.events import (
    STAGES,
    Event,
    Listen,
    Notice,
    Progress,
    RunStarted,
    Stage,
    StepSkipped,
    ignore,
)
from petkit.models.loading import shown_name
from petkit.runs.checkpoint import clear_checkpoints
from petkit.runs.layout import STUDENT, STUDENT_FILE
from petkit.runs.planning import PlannedStep, any_work, plan, refuse_unready, sound_plan, tell_stale_sources, to_do
from petkit.runs.provenance import now
from petkit.runs.resume import MOVED, environment, moved_from, refuse_resume
from petkit.runs.signals import leave_if_asked, stopping_gently
from petkit.runs.step import Step, carry_out
from petkit.runs.store import RunStore
from petkit.stages import a_teachers, b_soft_labels, baselines, c_student, evaluation, preparation
from petkit.task.task import Workload
from petkit.teachers.models import TeacherModels


@dataclass(frozen=True)
class Outlook:
    """What a run would do: the plan as it is shown, and the steps behind it, as far as they have names (``steps``: all)."""

    work: Workload
    store: RunStore
    arithmetic: Arithmetic
    planned: list[PlannedStep]
    steps: Sequence[Step]
    todo: Sequence[Step]


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: the run folder.
        ran: the steps that were worked on.
        metrics: on the test set; None without one, or where the evaluation was not asked for.
        has_student: whether the folder holds a classifier made from its present soft labels and settings.
        student_base: the model that this classifier is an adapter beside, for messages; None where it stands alone.
    """

    folder: Path
    ran: tuple[str, ...]
    metrics: dict[str, Any] | None
    has_student: bool
    student_base: str | None = None

    @property
    def student(self) -> Path:
        """The classifier's folder: ``transformers.pipeline("text-classification", …)`` loads it if it stands alone."""
        return self.folder / "stage_c" / "model"


def all_steps(work: Workload, arithmetic: Arithmetic) -> list[Step]:
    """Return every step of a prepared pipeline in order (see :mod:`petkit.stages.preparation`)."""
    models = TeacherModels(work.spec.model, work.spec.teachers.adapted, arithmetic, work.start_hash("teachers"))
    return [
        *a_teachers.steps(work, arithmetic, models),
        *b_soft_labels.steps(work),
        *c_student.steps(work, arithmetic, models),
        *evaluation.steps(work, arithmetic, models),
        *baselines.steps(work, arithmetic),
    ]


def look_ahead(
    pipeline: Pipeline,
    folder: str | Path,
    *,
    stages: Sequence[Stage] = STAGES,
    force: str | None = None,
    resume: str = "auto",
) -> Outlook:
    """Say what :func:`run` would do with these arguments; writes nothing and raises as it would for bad input."""
    work, store = Workload(pipeline), RunStore(folder)
    baselines.refuse_impossible(work)
    store.refuse_foreign()
    arithmetic = arithmetic_of(work, store)
    refuse_resume(store, resume, arithmetic)
    first = preparation.steps(work, arithmetic)
    planned = plan(first, store, force, stages)
    if any_work(planned, stages):
        later = f"the steps after {first[-1].name} have their names and patterns from it"
        return Outlook(work, store, arithmetic, [*planned, PlannedStep("…", "a", "run", later)], (), ())
    work = preparation.prepared(work, store)
    steps = all_steps(work, arithmetic)
    refuse_unready(steps, store, stages)
    shown = plan(steps, store, force, stages)
    told = [entry for entry in [*planned, *shown] if entry.stage in stages]
    return Outlook(work, store, arithmetic, told, steps, to_do(steps, shown, stages))


def run(
    pipeline: Pipeline,
    folder: str | Path,
    *,
    stages: Sequence[Stage] = STAGES,
    force: str | None = None,
    resume: str = "auto",
    listen: Listen = ignore,
) -> RunResult:
    """Run a pipeline, or some of its stages, into a run folder.

    Args:
        stages: which stages to work on; the others must be finished where they are needed.
        force: see :func:`plan`.
        resume: see :func:`petkit.runs.resume.refuse_resume`.
        listen: hears every event.

    Raises:
        InvalidInput: mistakes in the input; nothing was written.
        RunConflict: the folder is in use, no run folder, or holds steps made by other settings.
        IncompleteRun: a stage that was not asked for is not finished.
        KeyboardInterrupt, SystemExit: a signal; work in progress was kept.
    """
    work = Workload(pipeline)
    baselines.refuse_impossible(work)
    store = RunStore(folder)
    store.refuse_foreign()
    arithmetic = arithmetic_of(work, store)
    refuse_resume(store, resume, arithmetic)
    first = preparation.steps(work, arithmetic)
    if not any_work(sound_plan(first, store, force, stages), stages):
        # Before anything is written.
        ready = preparation.prepared(work, store)
        steps = all_steps(ready, arithmetic)
        room_for(ready, store, arithmetic, to_do(steps, sound_plan(steps, store, force, stages), stages))
    with store.locked(), stopping_gently(lambda message: listen(Notice("run", message))):

        def tell(event: Event) -> None:
            if not isinstance(event, Progress):
                store.log(event)
            listen(event)

        # Another process may have worked here until now.
        before = sound_plan(first, store, force, stages)
        begun = store.manifest()
        moved = moved_from(begun, arithmetic)
        if "recovered" in begun:
            tell(Notice("run", f"manifest.json {begun['recovered']} and is written anew; finished steps stay"))
        _describe(store, work, arithmetic, force)
        work.scratch = store.scratch("tokens")
        keep_every = 60 * work.spec.compute.checkpoint_minutes
        ran = [step.name for step in first if step.stage in stages and _advance(step, store, force, keep_every, tell)]
        work = preparation.prepared(work, store)
        steps = all_steps(work, arithmetic)
        planned = sound_plan(steps, store, force, stages)
        todo = to_do(steps, planned, stages)
        disk = room_for(work, store, arithmetic, todo)
        tell(RunStarted(len(todo), disk.needed, disk.free))
        if moved and todo:
            tell(Notice("run", MOVED.format(moved)))
        tell_stale_sources([*before, *planned], stages, tell)
        _tell_left_out(work, stages, tell)
        ran += [step.name for step in steps if step.stage in stages and _advance(step, store, force, keep_every, tell)]
    # Without a test set there may still be an evaluation of an earlier student in the folder.
    evaluated = any(step.stage == "evaluation" and step.stage in stages for step in steps)
    student = next(step for step in steps if step.name == STUDENT)
    has_student = store.status(STUDENT, student.all_inputs(store)).state == "finished"
    return RunResult(
        store.folder,
        tuple(ran),
        _read_metrics(store, work) if evaluated else None,
        has_student,
        _student_base(store) if has_student else None,
    )


def arithmetic_of(work: Workload, store: RunStore) -> Arithmetic:
    """Return where and in which number format a run works: as it began, if it did."""
    return choose_arithmetic(work.spec.compute, store.manifest().get("arithmetic"))


def _advance(step: Step, store: RunStore, force: str | None, keep_every: float, listen: Listen) -> bool:
    """Bring one step up to date; say whether there was work to do."""
    inputs = step.all_inputs(store)
    status = store.status(step.name, inputs)
    forced = force in (step.stage, "all")
    if status.state == "finished" and not forced:
        clear_checkpoints(store, step.name)  # killed between publishing and clearing
        listen(StepSkipped(step.name))
        return False
    leave_if_asked()
    carry_out(step.name, "forced" if forced else status.why, inputs, step.work, store, keep_every, listen)
    release_memory()
    return True


def _tell_left_out(work: Workload, stages: Sequence[Stage], listen: Listen) -> None:
    """Say what was asked for and counts for nothing."""
    for section, stage in (("teachers", "a"), ("student", "c")):
        settings = getattr(work.spec, section)
        if stage in stages and settings.adapted is not None and "learning_rate" in settings.model_fields_set:
            used = f"{section}.adapter.learning_rate ({settings.adapted.learning_rate:g}) does"
            listen(Notice("settings", f"{section}.learning_rate does not count beside an adapter; {used}"))
    if work.spec.baselines and work.spec.data.test is None and "evaluation" in stages:
        listen(Notice("baselines", "not run: there is no test set to compare on (name one as data.test)"))


def _read_metrics(store: RunStore, work: Workload) -> dict[str, Any] | None:
    metrics = evaluation.read_metrics(store)
    return None if metrics is None else {**metrics, **baselines.read_results(store, work)}


def _student_base(store: RunStore) -> str | None:
    base = json.loads((store.path(STUDENT) / STUDENT_FILE).read_text(encoding="utf-8")).get("base")
    return None if base is None else shown_name(base)


def _describe(store: RunStore, work: Workload, arithmetic: Arithmetic, force: str | None) -> None:
    before = store.manifest()
    store.write_manifest(
        {
            "task": work.spec.task,
            "labels": work.labels,
            "data": work.reading,
            "created": before.get("created", now()),
            **environment(arithmetic, {} if force == "all" else before),
        }
    )
    # The length really used: a default beyond the model's own limit was lowered to it.
    # Two models with different limits have no one length: the default stays unsaid, and is lowered for each again.
    resolved = work.spec.model_copy(update={"max_length": work.max_length})
    unsaid = frozenset({"max_length"} if work.max_length != work.student_max_length else ())
    store.write_text("config.resolved.yaml", dump_spec(resolved, unsaid))
