"""Going on with a run that began earlier: whether that is wanted, and whether it began where it is going on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from petkit.engine.device import Device
from petkit.errors import InvalidInput, Problem, RunConflict
from petkit.events import RESUME
from petkit.runs.provenance import COMPUTING, machine, package_versions
from petkit.runs.store import RunStore

MOVED = "this run began in another environment ({}); what is made now may differ in rounding from a run in one place"


def environment(device: Device, begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the bytes of a result depend on beside its inputs, for the manifest: where the run began.

    Args:
        begun: the manifest until now, or nothing; every step's own record says where that was made.
    """
    here = {"arithmetic": device.record(), "versions": package_versions(), "machine": machine()}
    return {part: begun.get(part) or found for part, found in here.items()}


def refuse_resume(store: RunStore, resume: str, device: Device) -> None:
    """Refuse what ``resume`` rules out.

    Raises:
        InvalidInput: not one of :data:`petkit.events.RESUME`.
        RunConflict: ``require`` and there is no run, or one that began in another environment; ``never`` and there is one.
    """
    if resume not in RESUME:
        raise InvalidInput([Problem.of_option("--resume", f"unknown {resume!r}", f"one of {', '.join(RESUME)}")])
    before = store.manifest()
    if resume == "never" and before:
        raise RunConflict(f"{store.shown}: holds {store.told} already (choose another --out, or --resume auto to go on with it)")
    if resume == "require" and not before:
        raise RunConflict(f"{store.shown}: holds nothing to go on with (check --out, or --resume auto to begin)")
    moved = moved_from(before, device)
    if resume == "require" and moved:
        hint = "go on there, or --resume auto to accept differences in rounding"
        raise RunConflict(f"{store.shown}: began in another environment: {moved} ({hint})")


def moved_from(manifest: Mapping[str, Any], device: Device) -> str:
    """Say what differs between where a run began and here; nothing for a run that is new or has not moved."""
    if not manifest:
        return ""
    before, here = _facts(manifest), _facts(environment(device, {}))
    return ", ".join(f"{name} {before[name]} → {value}" for name, value in here.items() if before[name] not in (None, value))


def _facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared; None for what an older manifest does not tell."""
    versions, device, computer = (found.get(part) or {} for part in ("versions", "arithmetic", "machine"))
    return {
        **{name: versions.get(name) for name in COMPUTING},
        "device": device.get("device"),
        "threads": device.get("threads"),
        "processor": computer.get("processor"),
        "Python": computer.get("python"),
    }
