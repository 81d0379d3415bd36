"""Where and in which number format the models run, chosen once per run and recorded."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from petkit.config.schema.adapter import AnyAdapter
from petkit.config.schema.pipeline import ComputeSpec
from petkit.engine.matmul_speedup import matmul_speedup
from petkit.errors import InvalidInput, Problem
from petkit.models.adapters.four_bit import FourBit

# bfloat16 must pay clearly: it costs three decimal digits.
_WORTH = 1.5


@dataclass(frozen=True)
class Device:
    """Device, number format and threads of a run."""

    name: str  # cpu, cuda, cuda:N or mps
    precision: Literal["float32", "bfloat16"]
    threads: int
    matmul_speedup: float = 0.0  # bfloat16 over float32 as measured (0: not measured)

    @property
    def autocast(self) -> Any:
        """A context in which matrix products run in the chosen format."""
        return torch.autocast(self.name.partition(":")[0], torch.bfloat16, enabled=self.precision == "bfloat16")

    @property
    def training_attention(self) -> Literal["eager"] | None:
        """The attention to train with (None: the model's own): torch's fused kernel has a slow backward pass on processors."""
        return "eager" if self.name == "cpu" else None

    def four_bit(self, adapter: AnyAdapter | None) -> FourBit | None:
        """The 4-bit storage of the frozen weights under an adapter; None where they keep their format."""
        if adapter is None or adapter.kind != "qlora":
            return None
        return FourBit(self.name, torch.bfloat16 if self.precision == "bfloat16" else torch.float32)

    def record(self) -> dict[str, Any]:
        """Return the choice for provenance."""
        record = asdict(self)
        return {"device": record.pop("name"), **record}


def choose_device(spec: ComputeSpec, begun: Mapping[str, Any] | None = None) -> Device:
    """Resolve ``auto``: the device that is there, and bfloat16 where this machine multiplies 1.5 times faster in it.

    The precision of an earlier start, whose record is ``begun``, is kept, so that what it began ends in the same numbers.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        message = "petkit uses one device per run, but was started as several processes"
        raise InvalidInput([Problem.of_command(message, "start it without accelerate launch or torchrun")])
    device = find_device(spec)
    if device.startswith("cuda:"):
        torch.cuda.set_device(int(device.removeprefix("cuda:")))  # what names no number means this one
    # The processors that this process may use, where the system reports them.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = spec.threads or usable
    torch.set_num_threads(threads)
    if spec.precision != "auto":
        return Device(device, spec.precision, threads)
    begun = begun or {}
    if (kept := begun.get("precision")) in ("float32", "bfloat16"):
        return Device(device, kept, threads, begun.get("matmul_speedup", 0.0))
    speedup = matmul_speedup(device, threads)
    return Device(device, "bfloat16" if speedup >= _WORTH else "float32", threads, round(speedup, 2))


def find_device(spec: ComputeSpec) -> str:
    """Return the device that is meant."""
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    device = spec.device if spec.device != "auto" else next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind, _, number = device.partition(":")
    if int(number or 0) >= available[kind]:
        raise InvalidInput([Problem.of_option("compute.device", f"{device} is not available on this machine", "use auto or cpu")])
    return device


def prepare_for_inference(model: nn.Module, device: Device) -> nn.Module:
    """Move ``model`` to the device in evaluation mode; under bfloat16 its linear weights are cast once, here.

    Autocast would cast every weight again in every batch. Norms and embeddings stay float32, layers in 4 bits as they are.
    """
    model.eval().requires_grad_(False)
    if device.precision == "bfloat16":
        kept = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        for module in model.modules():
            if isinstance(module, nn.Linear) and id(module.weight) not in kept and module.weight.is_floating_point():
                module.to(torch.bfloat16)
    return model.to(device.name)


def release_memory() -> None:
    """Give the memory of models that are no longer used back to the system."""
    gc.collect()  # models are cycles of modules and hooks
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


_freezing = threading.Lock()


@contextmanager
def quick_collections() -> Iterator[None]:
    """Keep the libraries' million objects out of garbage collections: in the block, only what it creates is examined."""
    if not _freezing.acquire(blocking=False):  # an outer block froze them
        yield
        return
    own = not gc.get_freeze_count()  # else the process froze them itself, and they stay so
    if own:
        gc.collect()  # garbage that is frozen would stay until the end of the block
        gc.freeze()
    try:
        yield
    finally:
        if own:
            gc.unfreeze()
        _freezing.release()


@contextmanager
def inference(device: Device) -> Iterator[None]:
    """Run forward passes without gradients in the chosen number format."""
    with torch.inference_mode(), device.autocast:
        yield
