"""The environment that made a result: versions, processor, time. Recorded, never part of a fingerprint."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from petkit.storage.integrity import Record

PACKAGES = (
    "petkit", "torch", "transformers", "tokenizers", "accelerate", "peft", "bitsandbytes",
    "datasets", "safetensors", "pyarrow", "numpy", "scikit-learn", "typer", "pydantic",
)  # fmt: skip
MOVED = "environment changed since the run started ({}); results may differ by rounding"
# Other versions of these round differently, or draw other random numbers (accelerate: in runs of older versions of petkit).
COMPUTING = ("petkit", "torch", "transformers", "tokenizers", "accelerate", "peft", "bitsandbytes", "numpy", "scikit-learn")
_COMPARED = {name: ("versions", name) for name in COMPUTING} | {
    "device": ("arithmetic", "device"), "threads": ("arithmetic", "threads"),
    "processor": ("machine", "processor"), "Python": ("machine", "python"),
}  # fmt: skip


@cache
def package_versions() -> dict[str, str]:
    """Return the installed version of every package a result can depend on ('missing' where there is none)."""
    found = dict.fromkeys(PACKAGES, "missing")
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine() -> dict[str, str | int]:
    """Return the system, processor, cores and Python of this machine."""
    from petkit.engine.device import processor_name  # with torch, which verifying a run does without

    python = sys.version.split()[0]
    return {"system": platform.platform(), "processor": processor_name(), "cores": os.cpu_count() or 1, "python": python}


def environment(arithmetic: Mapping[str, Any], begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment in which the run started, for the manifest; results depend on it in addition to their inputs.

    ``arithmetic`` is the present device and precision, ``begun`` the present manifest, if the run was begun before.
    """
    here = {"arithmetic": arithmetic, "versions": package_versions(), "machine": machine()}
    return {part: begun.get(part) or found for part, found in here.items()}


def moved_from(manifest: Mapping[str, Any], arithmetic: Mapping[str, Any]) -> str:
    """Describe the difference between the environment of a run and this one; empty for a new run."""
    here, found = environment(arithmetic, {}), []
    for name, (part, key) in _COMPARED.items():
        before, now_here = ((of.get(part) or {}).get(key) for of in (manifest, here))
        if before not in (None, now_here):  # None: an older manifest does not contain it
            found.append(f"{name} {before} → {now_here}")
    return ", ".join(found)


def reported_by(records: Sequence[Record]) -> dict[str, Any]:
    """Return what finished steps record about their run: kind, precision, and of the newest environment and hub revisions."""
    newest = max(records, key=lambda record: str(record.data.get("finished")))
    reported = ("kind", "versions", "machine", "revisions")
    found: dict[str, Any] = {name: newest.data[name] for name in reported if name in newest.data}
    precisions = {record.inputs["precision"] for record in records if isinstance(record.inputs.get("precision"), str)}
    return {**found, "arithmetic": {"precision": precisions.pop()}} if len(precisions) == 1 else found


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
