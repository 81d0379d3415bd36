"""Precision and threads follow from the machine's features and the run's record; neither a clock nor the environment has a part."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from petkit.config.schema.pipeline import ComputeSpec
from petkit.config.schema.training import TeachersSpec
from petkit.engine import device as module
from petkit.engine.device import Device, choose_device, emulates, multiplies_bfloat16, processor_name
from petkit.engine.training_loop import fit, seed_everything
from petkit.errors import InvalidInput
from petkit.models.loading import load_masked_lm

# Of launchers (torchrun, accelerate, deepspeed) and libraries; left over, odd or empty.
VARIABLES = {
    "WORLD_SIZE": "", "RANK": "y", "LOCAL_RANK": "x", "LOCAL_WORLD_SIZE": "z", "MASTER_PORT": "no",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_TORCH_DEVICE": "meta", "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DOWNCAST_BF16": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true", "XLA_USE_BF16": "1", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3",
}  # fmt: skip

HERE = {"processor": processor_name(), "cores": os.cpu_count()}


def processor(
    monkeypatch: pytest.MonkeyPatch, name: str, *, avx512_bf16: bool = False, amx: bool = False, arm: bool = False
) -> None:
    """Let the machine be another one."""
    monkeypatch.setattr(platform, "machine", lambda: name)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: arm)


@pytest.mark.parametrize(
    ("name", "features", "precision"),
    [
        ("x86_64", {}, "float32"),
        ("x86_64", {"arm": True}, "float32"),  # what torch says of every AVX-512, where bfloat16 may be emulated
        ("x86_64", {"avx512_bf16": True}, "bfloat16"),
        ("AMD64", {"amx": True}, "bfloat16"),
        ("aarch64", {"avx512_bf16": True}, "float32"),
        ("arm64", {"arm": True}, "bfloat16"),
    ],
)
def test_features_of_the_processor_decide(
    name: str, features: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, name, **features)
    assert choose_device(ComputeSpec(device="cpu")).precision == precision


def test_features_of_the_gpu_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation, it=supported: it)
        assert multiplies_bfloat16("cuda:0") is supported
    assert not multiplies_bfloat16("mps")


def test_no_clock_has_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("a clock was read")

    for clock in ("time", "monotonic", "perf_counter", "perf_counter_ns", "process_time", "monotonic_ns"):
        monkeypatch.setattr(time, clock, refuse)
    first = choose_device(ComputeSpec(device="cpu"))
    assert [choose_device(ComputeSpec(device="cpu")) for _ in range(5)] == [first] * 5


def test_a_run_keeps_precision_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: False)
    begun = {"arithmetic": {"precision": "bfloat16", "threads": 3}, "machine": HERE}
    assert choose_device(ComputeSpec(device="cpu"), begun) == Device("cpu", "bfloat16", 3)
    chosen = ComputeSpec(device="cpu", precision="float32", threads=2)
    assert choose_device(chosen, begun) == Device("cpu", "float32", 2)  # what is written counts


@pytest.mark.parametrize("multiplies", [True, False])
@pytest.mark.parametrize("kept", ["float32", "bfloat16"])
def test_a_precision_that_is_not_to_be_emulated(kept: str, multiplies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "x86_64", avx512_bf16=multiplies)
    begun, spec = {"arithmetic": {"precision": kept}}, ComputeSpec(device="cpu")
    assert choose_device(spec, begun, emulate=False).precision == (kept if multiplies else "float32")
    assert emulates(choose_device(spec, begun)) == (kept == "bfloat16" and not multiplies)
    written = ComputeSpec(device="cpu", precision="bfloat16")
    assert choose_device(written, begun, emulate=False).precision == "bfloat16"


@pytest.mark.parametrize("other", [{"processor": "an abacus"}, {"cores": 4096}])
def test_another_processor_keeps_the_precision_alone(other: dict[str, object]) -> None:
    begun = {"arithmetic": {"precision": "bfloat16", "threads": 77}, "machine": HERE | other}
    found = choose_device(ComputeSpec(device="cpu"), begun)
    assert found.precision == "bfloat16" and found.threads == choose_device(ComputeSpec(device="cpu")).threads != 77


@pytest.mark.parametrize("threads", [0, -1, 2**40, "2", True, None, 1.5])
def test_a_record_of_other_threads_does_not_count(threads: object) -> None:
    begun = {"arithmetic": {"threads": threads}, "machine": HERE}
    assert choose_device(ComputeSpec(device="cpu"), begun) == choose_device(ComputeSpec(device="cpu"))


def test_the_environment_changes_no_result(monkeypatch: pytest.MonkeyPatch, model_folder: Callable[[str], Path]) -> None:
    plain = _trained(str(model_folder("bert")))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        odd = _trained(str(model_folder("bert")))
        assert torch.get_float32_matmul_precision() == "medium" and VARIABLES.items() <= os.environ.items()
    finally:
        torch.set_float32_matmul_precision(before)
    assert odd == plain


@pytest.mark.parametrize("value", ["", "abc", "0", "1", "-3", "1.5", " "])
def test_one_process_or_an_odd_number_of_them_is_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = choose_device(ComputeSpec(device="cpu"))
    monkeypatch.setenv("WORLD_SIZE", value)
    assert choose_device(ComputeSpec(device="cpu")) == plain


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match="was started as several processes"):
        choose_device(ComputeSpec())


def _trained(model: str) -> tuple[Device, list[float]]:
    """Return the device, and the losses of a training on it."""
    device = choose_device(ComputeSpec(device="cpu", precision="float32"))
    seed_everything(1)
    loaded = load_masked_lm(model, device.training_attention)

    def loss_of(model: nn.Module, rows: Tensor) -> Tensor:
        loss: Tensor = model(input_ids=rows, labels=rows).loss
        return loss

    rows = torch.arange(16).reshape(2, 8) % 5
    with device.in_use():
        return device, fit(loaded, [rows] * 3, loss_of, TeachersSpec(steps=3), device, seed=1)
