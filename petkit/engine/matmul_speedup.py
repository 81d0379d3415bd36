"""How much faster this machine multiplies matrices in bfloat16: measured once, then remembered in the user's cache folder."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

# Processors without bfloat16 are slower in it by far more than a busy moment explains, up to a second per product.
_EMULATED = 5


@cache
def matmul_speedup(device: str, threads: int) -> float:
    """Return how many times faster a transformer-sized product is in bfloat16 than in float32 (``mps``: 0, not measured).

    The figure is remembered per processor, torch version and number of threads, so that the precision that follows from it
    does not depend on how busy the machine is; a cache folder that cannot be read or written does not matter.
    """
    if device == "mps":
        return 0.0
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (Path raises without a home)
    path = Path(caches) / "petkit" / "matmul_speedup.json"
    key = f"{processor_name(device)}, torch {torch.__version__}, {threads} threads"
    known = _read(path)
    if key not in known:
        known[key] = measure_matmul_speedup(device)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_text(json.dumps(known, indent=2), encoding="utf-8")
            os.replace(temporary, path)
    return known[key]


def measure_matmul_speedup(device: str) -> float:
    """Return the ratio of the least times of both formats."""
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for repeats in (1, 7, 7, 7, 7, 7):  # in turn, so that a busy moment of the machine meets both
        for dtype in best:
            best[dtype] = min(best[dtype], matmul_seconds(dtype, device, repeats=repeats))
        if best[torch.bfloat16] > _EMULATED * best[torch.float32]:
            break
    return best[torch.float32] / best[torch.bfloat16]


def matmul_seconds(
    dtype: torch.dtype, device: str = "cpu", *, rows: int = 1024, inner: int = 384, columns: int = 1536, repeats: int = 7
) -> float:
    """Return the least time of one ``(rows, inner) @ (inner, columns)`` product in seconds."""
    left = torch.randn(rows, inner, dtype=dtype, device=device)
    right = torch.randn(inner, columns, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # reading one value waits for the device
        best = min(best, time.perf_counter() - start)
    return best


def _read(path: Path) -> dict[str, float]:
    try:
        read = {key: float(value) for key, value in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {key: value for key, value in read.items() if math.isfinite(value)}


def processor_name(device: str = "cpu") -> str:
    """Return the name of the processor as the system reports it, or of another device."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
