"""Where and in which number format the models run: decided by the machine's features, never timed, and recorded."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from petkit import limits
from petkit.config.schema.adapter import AnyAdapter
from petkit.config.schema.pipeline import ComputeSpec
from petkit.errors import InvalidInput, Problem
from petkit.models.adapters.four_bit import FourBit

EMULATED = (
    "works in bfloat16, which this machine has no instructions for and emulates many times slower; "
    "its results stay the same (compute.precision: float32 in a new --out is faster)"
)


class _WholeFloat32:
    """While a block of any thread is open, products of float32 are computed in float32, whatever the process has set."""

    def __init__(self) -> None:
        self._lock, self._blocks = threading.Lock(), 0
        self._formats: list[str] = []

    @property
    def _places(self) -> tuple[Any, ...]:
        mkldnn: Any = torch.backends.mkldnn
        return mkldnn.matmul, mkldnn.conv, mkldnn.rnn, torch.backends.cuda.matmul

    def _set(self, formats: Sequence[str]) -> None:
        for place, name in zip(self._places, formats, strict=True):
            place.fp32_precision = name

    def __enter__(self) -> None:
        with self._lock:
            if not self._blocks:
                self._formats = [place.fp32_precision for place in self._places]
                self._set(["ieee"] * len(self._formats))
            self._blocks += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._set(self._formats)


_whole_float32 = _WholeFloat32()


@dataclass(frozen=True)
class Device:
    """Device, number format and threads of a run."""

    name: str  # cpu, cuda, cuda:N or mps
    precision: Literal["float32", "bfloat16"]
    threads: int

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

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Compute in the block on this device, with its threads and with products of float32 in float32.

        After the block the process has its own settings again: it may be somebody else's.
        """
        threads = torch.get_num_threads()
        # What names a device without a number means this one.
        with _whole_float32, torch.cuda.device(self.name) if self.name.startswith("cuda:") else nullcontext():
            torch.set_num_threads(self.threads)
            try:
                yield
            finally:
                torch.set_num_threads(threads)

    def record(self) -> dict[str, Any]:
        """Return the choice for provenance."""
        record = asdict(self)
        return {"device": record.pop("name"), **record}


def choose_device(spec: ComputeSpec, begun: Mapping[str, Any] | None = None, *, emulate: bool = True) -> Device:
    """Resolve ``auto``: the device that is there, and bfloat16 where it has instructions to multiply in it.

    No variable of the environment has a part in it. Nothing of the process changes before :meth:`Device.in_use`.

    Args:
        begun: the manifest of an earlier start. Its precision is kept and, on the same processor, its number of threads, so
            that what it began ends in the same numbers.
        emulate: keep its bfloat16 even where the device has no instructions for it, which is many times slower.
    """
    if (processes := os.environ.get("WORLD_SIZE", "")).isdecimal() and int(processes) > 1:
        message = "petkit uses one device per run, but was started as several processes"
        raise InvalidInput([Problem.of_option("", message, "start it without accelerate launch or torchrun")])
    device = find_device(spec)
    begun = begun or {}
    before = begun.get("arithmetic", {})
    recorded, machine = before.get("threads"), begun.get("machine", {})
    same = (machine.get("processor"), machine.get("cores")) == (processor_name(), os.cpu_count() or 1)
    kept_threads = recorded if type(recorded) is int and 0 < recorded <= limits.THREADS and same else None
    # The processors that this process may use, where the system reports them.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = spec.threads or kept_threads or usable
    if spec.precision != "auto":
        return Device(device, spec.precision, threads)
    kept = before.get("precision")
    if kept == "float32" or (kept == "bfloat16" and emulate):
        return Device(device, kept, threads)
    return Device(device, "bfloat16" if multiplies_bfloat16(device) else "float32", threads)


def emulates(device: Device) -> bool:
    """Return whether a device has no instructions for the precision that it works in."""
    return device.precision == "bfloat16" and not multiplies_bfloat16(device.name)


def multiplies_bfloat16(device: str) -> bool:
    """Return whether a device has instructions that multiply matrices in bfloat16."""
    if device == "mps":
        return False
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    # On x86 this is also true where bfloat16 is emulated.
    has_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def processor_name() -> str:
    """Return the name of the processor as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
