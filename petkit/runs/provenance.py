"""The environment that made a result: versions, processor, time. Recorded, never part of a fingerprint."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from petkit.storage.integrity import Record

PACKAGES = (
    "petkit",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "datasets",
    "safetensors",
    "pyarrow",
    "numpy",
    "scikit-learn",
    "typer",
    "pydantic",
)
# Other versions of these round differently, or draw other random numbers (accelerate: in runs of older versions of petkit).
COMPUTING = ("petkit", "torch", "transformers", "tokenizers", "accelerate", "peft", "bitsandbytes", "numpy", "scikit-learn")


@cache
def package_versions() -> dict[str, str]:
    """Return the installed version of every package a result can depend on ('missing' where there is none)."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def machine() -> dict[str, str | int]:
    """Return the system, processor, cores and Python of this machine."""
    return {
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count() or 1,
        "python": sys.version.split()[0],
    }


def processor_name() -> str:
    """Return the processor's name as the system reports it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def reported_by(records: Sequence[Record]) -> dict[str, Any]:
    """Return what finished steps record about their run: its kind, its precision, and the environment of the newest."""
    newest = max(records, key=lambda record: str(record.data.get("finished")))
    found: dict[str, Any] = {name: newest.data[name] for name in ("kind", "versions", "machine") if name in newest.data}
    precisions = {record.inputs["precision"] for record in records if isinstance(record.inputs.get("precision"), str)}
    return {**found, "arithmetic": {"precision": precisions.pop()}} if len(precisions) == 1 else found


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
