"""Resuming a run: whether ``--resume`` allows it, and whether the environment is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from petkit.engine.device import Device
from petkit.errors import InvalidInput, Problem, RunConflict
from petkit.events import RESUME
from petkit.runs.provenance import COMPUTING, machine, now, package_versions
from petkit.runs.store import CONFIG, RunStore

MOVED = "environment changed since the run started ({}); results may differ by rounding"


def environment(device: Device, begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment in which the run started, for the manifest; results depend on it in addition to their inputs.

    Args:
        begun: the present manifest, or nothing; every step records its own environment.
    """
    here = {"arithmetic": device.record(), "versions": package_versions(), "machine": machine()}
    return {part: begun.get(part) or found for part, found in here.items()}


def describe(store: RunStore, facts: Mapping[str, Any], device: Device, config: str, *, all_again: bool = False) -> None:
    """Write the manifest and the resolved pipeline; the date and environment of an earlier start stay.

    Args:
        all_again: every step is made again, in the present environment.
    """
    before = store.manifest()
    begun = environment(device, {} if all_again else before)
    store.write_manifest({**facts, "created": before.get("created", now()), **begun})
    store.write_text(CONFIG, config)


def refuse_resume(store: RunStore, resume: str, device: Device) -> None:
    """Refuse what ``resume`` rules out.

    Raises:
        InvalidInput: not one of :data:`petkit.events.RESUME`.
        RunConflict: ``require`` without a run, or with one started in another environment; ``never`` and there is one.
    """
    if resume not in RESUME:
        raise InvalidInput([Problem.of_option("--resume", f"unknown {resume!r}", f"one of {', '.join(RESUME)}")])
    before = store.manifest()
    if resume == "never" and before:
        raise RunConflict(
            f"{store.shown}: already contains {store.kind_name} (choose another --out, or --resume auto to resume it)"
        )
    if resume == "require" and not before:
        raise RunConflict(f"{store.shown}: contains no run to resume (check --out, or --resume auto to start one)")
    moved = moved_from(before, device)
    if resume == "require" and moved:
        hint = "resume there, or --resume auto to accept differences by rounding"
        raise RunConflict(f"{store.shown}: started in another environment: {moved} ({hint})")


def moved_from(manifest: Mapping[str, Any], device: Device) -> str:
    """Describe the difference between the environment of a run and this one; empty for a new run."""
    if not manifest:
        return ""
    before, here = _facts(manifest), _facts(environment(device, {}))
    return ", ".join(f"{name} {before[name]} → {value}" for name, value in here.items() if before[name] not in (None, value))


def _facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts to compare; None for those an older manifest does not contain."""
    versions, device, computer = (found.get(part) or {} for part in ("versions", "arithmetic", "machine"))
    return {
        **{name: versions.get(name) for name in COMPUTING},
        "device": device.get("device"),
        "threads": device.get("threads"),
        "processor": computer.get("processor"),
        "Python": computer.get("python"),
    }
