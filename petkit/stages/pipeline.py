"""The method in one place: A → B → C → evaluation, each a list of steps that run only when they must.

pipeline file ─► Task (everything checked) ─► preparation, if any ─► steps ─► plan ─► run folder
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from petkit.config.loader import Pipeline, dump_spec
from petkit.cost.estimate import Estimate, estimate, room_for
from petkit.engine.device import EMULATED, Device, choose_device, emulates, release_memory
from petkit.engine.training_loop import own_random_numbers
from petkit.events import STAGES, Notice, OnEvent, RunStarted, Stage, StepSkipped, ignore, report_notes
from petkit.models.loading import shown_name
from petkit.runs.checkpoint import clear_checkpoints
from petkit.runs.layout import EVALUATION, METRICS_FILE, STUDENT, STUDENT_FILE
from petkit.runs.planning import (
    PlannedStep,
    plan,
    refuse_resume,
    refuse_stale,
    refuse_stale_sources,
    refuse_unknown_force,
    refuse_unready,
    stale_sources,
    to_do,
)
from petkit.runs.provenance import MOVED, moved_from
from petkit.runs.signals import stop_if_requested
from petkit.runs.step import Job, Step, at_work, carry_out
from petkit.runs.store import RunStore
from petkit.stages import a_teachers, b_soft_labels, baselines, c_student, evaluation, preparation
from petkit.task.checks import sample_notes
from petkit.task.model_checks import at_commits
from petkit.task.task import Task
from petkit.teachers.models import teacher_models


@dataclass(frozen=True)
class Prepared:
    """A checked task with its plan.

    Attributes:
        checked: the task as the pipeline file describes it; ``task`` has label words and patterns found by preparation.
        first: the steps of preparation; ``first_plan`` is their plan.
        steps: all further steps, ``plan`` theirs; None until preparation has found what they depend on.
        todo: the ``steps`` to be worked on.
        allow_stale: read steps of earlier stages although other settings made them.
    """

    checked: Task
    store: RunStore
    device: Device
    stages: Sequence[Stage]
    force: str | None
    first: Sequence[Step]
    first_plan: Sequence[PlannedStep]
    task: Task
    steps: Sequence[Step] | None = None
    plan: Sequence[PlannedStep] = ()
    todo: Sequence[Step] = ()
    allow_stale: bool = False

    @classmethod
    def of(
        cls, task: Task, store: RunStore, device: Device, stages: Sequence[Stage], force: str | None, allow_stale: bool
    ) -> Prepared:
        """Plan what the run folder lacks now."""
        first = preparation.steps(task, device)
        first_plan = plan(first, store, force, stages)
        ready = cls(task, store, device, stages, force, first, first_plan, task, allow_stale=allow_stale)
        return ready if to_do(first, first_plan, stages) else ready.with_steps()

    @property
    def planned(self) -> list[PlannedStep]:
        """The plan of all steps in the order of work, as far as they are known."""
        if self.steps is None:
            later = f"the steps after {self.first[-1].name} have their names and patterns from it"
            return [*self.first_plan, PlannedStep("…", "a", "run", later)]
        return [*self.stale_sources, *(entry for entry in (*self.first_plan, *self.plan) if entry.stage in self.stages)]

    @property
    def stale_sources(self) -> list[PlannedStep]:
        """The stale steps of earlier stages."""
        return stale_sources([*self.first_plan, *self.plan], self.stages)

    def with_steps(self) -> Prepared:
        """Return it with the steps after preparation, which must be finished."""
        task = preparation.prepared(self.checked, self.store)
        steps = all_steps(task, self.device)
        refuse_unready(steps, self.store, self.stages)
        planned = plan(steps, self.store, self.force, self.stages)
        return replace(self, task=task, steps=steps, plan=planned, todo=to_do(steps, planned, self.stages))

    def not_stale(self) -> Prepared:
        """Return it; refuse steps that other settings made, unless they are to be redone, or read as they are."""
        planned = [*self.first_plan, *self.plan]
        refuse_stale(planned, self.store, self.stages)
        if not self.allow_stale:
            refuse_stale_sources(planned, self.store, self.stages)
        return self


@dataclass(frozen=True)
class Forecast:
    """What a run would do, and its estimate; None where there is nothing to do, or where ``unknown`` says why."""

    steps: list[PlannedStep]
    estimate: Estimate | None
    unknown: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: seconds and bytes."""
        return asdict(self)


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: the run folder.
        ran: the steps that were worked on.
        metrics: on the test set; None without one, or where the evaluation was not among the stages.
        has_student: whether the folder contains a classifier made from its present soft labels and settings.
        student_base: the base model of an adapter classifier, for messages; None for a classifier of its own.
        stale: step → why, of stale steps of earlier stages that were read as they are.
    """

    folder: Path
    ran: tuple[str, ...]
    metrics: dict[str, Any] | None
    has_student: bool
    student_base: str | None = None
    stale: Mapping[str, str] = field(default_factory=dict)

    @property
    def student(self) -> Path:
        """The classifier's folder: ``transformers.pipeline("text-classification", …)`` loads it unless it is an adapter."""
        return self.folder / "stage_c" / "model"


def all_steps(task: Task, device: Device) -> list[Step]:
    """Return every step of a prepared pipeline in order (see :mod:`petkit.stages.preparation`)."""
    teachers = task.spec.teachers
    models = teacher_models(task.spec.model, teachers.adapted, device, task.start_hash("teachers"), teachers.scoring)
    return [
        *a_teachers.steps(task, device, models),
        *b_soft_labels.steps(task),
        *c_student.steps(task, device, models),
        *evaluation.steps(task, device, models),
        *baselines.steps(task, device),
    ]


def prepare(
    pipeline: Pipeline,
    folder: str | Path,
    *,
    stages: Sequence[Stage] = STAGES,
    force: str | None = None,
    resume: str = "auto",
    allow_stale: bool = False,
) -> Prepared:
    """Check everything and plan; writes nothing.

    Args:
        stages: which stages to work on; the others must be finished where they are needed.
        force: see :func:`petkit.runs.planning.plan`.
        resume: see :func:`petkit.runs.planning.refuse_resume`.
        allow_stale: read steps of earlier stages even if other settings made them.
    """
    store = RunStore(folder)
    refuse_unknown_force(force)
    store.refuse_foreign()
    device = device_of(pipeline, store)
    refuse_resume(store, resume, device.record())
    baselines.refuse_impossible(pipeline)
    # Only now are models downloaded and loaded.
    task = Task.checked(at_commits(pipeline, store))
    return Prepared.of(task, store, device, stages, force, allow_stale)


def dry_run(ready: Prepared) -> Forecast:
    """Return what :func:`run` would do, with the time, memory and disk that takes; writes nothing.

    Takes some seconds where the speed of the models has to be measured.
    """
    if ready.steps is None:
        return Forecast(ready.planned, None, "no estimate before the steps have their names")
    with ready.device.in_use():
        return Forecast(ready.planned, estimate(ready.task, ready.store, ready.device, ready.steps, ready.todo))


def run(ready: Prepared, on_event: OnEvent = ignore) -> RunResult:
    """Run a pipeline, or some of its stages, into its run folder.

    Raises:
        RunConflict: the folder is in use, or contains steps made with other settings.
        KeyboardInterrupt, SystemExit: a signal; work in progress was kept.
    """
    store, device, stages, expected = ready.store, ready.device, ready.stages, ready.not_stale().todo
    # Before anything is written.
    disk = None if ready.steps is None else room_for(ready.task, store, device, expected)
    with at_work(store, "run", on_event) as report, device.in_use(), own_random_numbers(device):

        def advance(steps: Sequence[Step]) -> list[str]:
            worked_on = [step for step in steps if step.stage in stages]
            return [step.name for step in worked_on if _advance(step, ready, describe, report)]

        # Another process may have worked here until now: its records count.
        task = replace(ready.checked, scratch=store.scratch("tokens"), stores={}, on_event=report)
        ready = Prepared.of(task, store, device, stages, ready.force, ready.allow_stale).not_stale()
        begun = store.manifest()
        moved = moved_from(begun, device.record())
        if "recovered" in begun:
            report(Notice("run", f"manifest.json {begun['recovered']} and is rewritten; finished steps stay"))
        describe = cache(partial(_describe, store, task, device, all_again=ready.force == "all"))
        if not (store.steps() and store.is_described()):
            describe()  # otherwise once a step is made: what is refused before changes nothing
        ran = advance(ready.first)
        if ready.steps is None:
            ready = ready.with_steps().not_stale()
        if disk is None or [step.name for step in ready.todo] != [step.name for step in expected]:
            disk = room_for(ready.task, store, device, ready.todo)
        task, steps = ready.task, ready.steps or ()
        report(RunStarted(len(ready.todo), disk.needed, disk.free))
        if moved and ready.todo:
            report(Notice("run", MOVED.format(moved)))
        if ready.todo and emulates(device):
            report(Notice("run", EMULATED))
        if stale := ready.stale_sources:
            more = f", and {len(stale) - 1} more" if len(stale) > 1 else ""
            report(Notice(stale[0].step, f"used as it is, though {stale[0].why}{more}"))
        _report_left_out(task, stages, report)
        ran += advance(steps)
        describe()
    # Without a test set there may still be an evaluation of an earlier student in the folder.
    evaluated = any(step.stage == "evaluation" and step.stage in stages for step in steps)
    metrics = {**store.read(EVALUATION, METRICS_FILE), **baselines.read_results(store, task)} if evaluated else None
    student = next(step for step in steps if step.name == STUDENT)
    has_student = store.status(STUDENT, student.all_inputs(store)).state == "finished"
    base = store.read(STUDENT, STUDENT_FILE).get("base") if has_student else None
    read = {entry.step: entry.why for entry in ready.stale_sources}
    return RunResult(store.folder, tuple(ran), metrics, has_student, base and shown_name(base), read)


def device_of(task: Task | Pipeline, store: RunStore) -> Device:
    """Return where and in which number format a run works: as it began, if it did."""
    return choose_device(task.spec.compute, store.manifest())


def _advance(step: Step, ready: Prepared, describe: Callable[[], None], on_event: OnEvent) -> bool:
    """Bring one step up to date; return whether there was work to do, after which ``describe`` is called."""
    store, keep_every = ready.store, 60 * ready.checked.spec.compute.checkpoint_minutes

    def work(job: Job) -> None:
        step.work(job)
        describe()

    inputs = step.all_inputs(store)
    status = store.status(step.name, inputs)
    forced = ready.force in (step.stage, "all")
    if status.state == "finished" and not forced:
        clear_checkpoints(store, step.name)  # killed between publishing and clearing
        on_event(StepSkipped(step.name))
        return False
    stop_if_requested()
    carry_out(step.name, "forced" if forced else status.why, inputs, work, store, keep_every, on_event)
    release_memory()
    return True


def _report_left_out(task: Task, stages: Sequence[Stage], on_event: OnEvent) -> None:
    """Report rows that are left out, and settings that have no effect."""
    report_notes((*task.notes, *sample_notes(task.spec, task.scans["unlabeled"])), on_event)
    for section, stage in (("teachers", "a"), ("student", "c")):
        settings = getattr(task.spec, section)
        if stage in stages and settings.adapted is not None and "learning_rate" in settings.model_fields_set:
            used = f"{section}.adapter.learning_rate ({settings.adapted.learning_rate:g}) is used"
            on_event(Notice("settings", f"{section}.learning_rate is ignored with an adapter; {used}"))
    if task.spec.baselines and task.spec.data.test is None and "evaluation" in stages:
        on_event(Notice("baselines", "not run: there is no test set to compare on (name one as data.test)"))


def _describe(store: RunStore, task: Task, device: Device, *, all_again: bool) -> None:
    # The length really used: a default beyond the model's own limit was lowered to it.
    # Two models with different limits have no one length: the default is left out, and is lowered for each again.
    resolved = task.spec.model_copy(update={"max_length": task.max_length})
    left_out = frozenset({"max_length"} if task.max_length != task.student_max_length else ())
    facts = {"task": task.spec.task, "labels": task.labels, "data": task.reading}
    facts |= {"revisions": dict(task.pipeline.revisions)} if task.pipeline.revisions else {}
    store.describe(facts, device.record(), dump_spec(resolved, left_out), all_again=all_again)
