"""The plan of a run: which steps it works on and why, and the refusal of what must not start."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from petkit.errors import IncompleteRun, InvalidInput, Problem, RunConflict
from petkit.events import FORCE_TARGETS, RESUME, STAGES, Stage
from petkit.runs.layout import CHECKPOINTS
from petkit.runs.provenance import moved_from
from petkit.runs.step import Step
from petkit.runs.store import RunStore


@dataclass(frozen=True)
class PlannedStep:
    """The action planned for a step, and the reason."""

    step: str
    stage: Stage
    action: Literal["run", "skip", "stale"]
    why: str


def plan(steps: Sequence[Step], store: RunStore, force: str | None = None, stages: Sequence[Stage] = STAGES) -> list[PlannedStep]:
    """Return what a run would do with every step.

    Args:
        force: None, ``"stale"`` (redo stale steps), a stage to redo, or ``"all"``; it concerns ``stages`` only.
        stages: the stages to work on; the others stay as they are.
    """
    refuse_unknown_force(force)
    planned: list[PlannedStep] = []
    renewed: set[str] = set()
    for step in steps:
        worked_on = step.stage in stages
        # Unknown, so that it makes no step stale: the future content of a renewed step; what only an earlier stage has read.
        waits = [need for need in step.needs if need in renewed or (not worked_on and store.content(need) is None)]
        status = store.status(step.name, step.all_inputs(store), unknown=waits, hashes=worked_on)
        action: Literal["run", "skip", "stale"] = "run"
        if worked_on and force in (step.stage, "all"):
            why = "forced"
        elif status.state == "stale":
            action = "run" if worked_on and force is not None else "stale"
            why = f"stale: {status.why}"
        elif status.state != "finished":
            begun = os.path.isdir(store.folder / CHECKPOINTS / step.name)  # noqa: PTH112 (False for an impossible name)
            why = f"{status.why}, but begun" if begun else status.why
        elif waits:
            why = f"after {waits[0]}, if that changes"
        else:
            action, why = "skip", "finished"
        if action != "skip" and worked_on:
            renewed.add(step.name)
        planned.append(PlannedStep(step.name, step.stage, action, why))
    return planned


def to_do(steps: Sequence[Step], planned: Sequence[PlannedStep], stages: Sequence[Stage]) -> list[Step]:
    """Return the steps of these stages that the plan runs."""
    names = {entry.step for entry in planned if entry.action != "skip" and entry.stage in stages}
    return [step for step in steps if step.name in names]


def refuse_unknown_force(force: str | None) -> None:
    """Refuse what ``--force`` does not know."""
    if force is not None and force not in FORCE_TARGETS:
        raise InvalidInput([Problem.of_option("force", f"unknown stage {force!r}", f"one of {', '.join(FORCE_TARGETS)}")])


def refuse_stale(planned: Sequence[PlannedStep], store: RunStore, stages: Sequence[Stage]) -> None:
    """Refuse steps of these stages that other settings made."""
    hint = "--force redoes and replaces these steps; --out FOLDER starts a new run and keeps them"
    _refuse([entry for entry in planned if entry.action == "stale" and entry.stage in stages], store, "made with", hint)


def stale_sources(planned: Sequence[PlannedStep], stages: Sequence[Stage]) -> list[PlannedStep]:
    """Return the stale steps of earlier stages, which these stages would read as they are."""
    last = max(STAGES.index(stage) for stage in stages)
    return [
        entry for entry in planned if entry.action == "stale" and entry.stage not in stages and STAGES.index(entry.stage) < last
    ]


def refuse_stale_sources(planned: Sequence[PlannedStep], store: RunStore, stages: Sequence[Stage]) -> None:
    """Refuse to read steps of earlier stages that other settings made."""
    hint = "petkit run --force redoes them; --allow-stale reads them as they are, where rows and labels are the same"
    _refuse(stale_sources(planned, stages), store, "would read steps made with", hint)


def _refuse(stale: Sequence[PlannedStep], store: RunStore, why: str, hint: str) -> None:
    if stale:
        shown = [f"  {entry.step}: {entry.why}" for entry in stale[:10]]
        more = [f"  … and {len(stale) - 10} more steps"] if len(stale) > 10 else []
        raise RunConflict("\n".join([f"{store.shown}: {why} other settings:", *shown, *more, f"({hint})"]))


def refuse_unready(steps: Sequence[Step], store: RunStore, stages: Sequence[Stage]) -> None:
    """Refuse stages whose inputs neither exist nor are made in this run."""
    coming = {step.name for step in steps if step.stage in stages}
    for step in steps:
        for need in step.needs:
            if step.stage in stages and need not in coming and store.content(need) is None:
                command = need.split("/")[0].replace("_", "-")
                why = f"{step.name} needs {need}, which is not finished (run petkit {command} first)"
                raise IncompleteRun(f"{store.shown}: {why}")


def refuse_resume(store: RunStore, resume: str, arithmetic: Mapping[str, Any]) -> None:
    """Refuse what ``--resume`` (:data:`petkit.events.RESUME`) rules out, with the present device and precision."""
    if resume not in RESUME:
        raise InvalidInput([Problem.of_option("--resume", f"unknown {resume!r}", f"one of {', '.join(RESUME)}")])
    before = store.manifest()
    why, moved = "", moved_from(before, arithmetic)
    if resume == "never" and before:
        why = f"already contains {store.kind_name} (choose another --out, or --resume auto to resume it)"
    if resume == "require" and not before:
        why = "contains no run to resume (check --out, or --resume auto to start one)"
    if resume == "require" and moved:
        why = f"started in another environment: {moved} (resume there, or --resume auto to accept differences by rounding)"
    if why:
        raise RunConflict(f"{store.shown}: {why}")
