"""No variable of the environment changes a result, and petkit changes neither the environment nor torch of another program."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from petkit import Predictor
from petkit.__main__ import clear_environment
from petkit.config.schema.pipeline import ComputeSpec
from petkit.engine.device import Device
from tests.tiny_task import products, run_task

HOSTILE = {
    "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_VERBOSE": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41", "DNNL_MAX_CPU_ISA": "SSE41", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "ONEDNN_VERBOSE": "1",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16", "DNNL_VERBOSE": "1", "OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "TORCH_LINEAR_FLATTEN_3D": "1", "TORCH_MKLDNN_MATMUL_MIN_DIM": "1",
    "NVIDIA_TF32_OVERRIDE": "1", "OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true", "PYTORCH_JIT": "0",
}  # fmt: skip
HARMLESS = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HOME": "x", "PYTORCH_ALLOC_CONF": ""}


def formats() -> list[str]:
    """Return the formats in which torch computes products of float32."""
    backends: Any = torch.backends
    places = (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn, backends.cuda.matmul)
    return [place.fp32_precision for place in places]


def settings() -> dict[str, Any]:
    """Return what of a process a computation could change."""
    return {
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "formats": formats(),
        "matmul": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "random": (torch.random.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture(params=["highest", "medium"])
def host(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The settings of a program that uses petkit."""
    torch.set_float32_matmul_precision(request.param)
    torch.set_num_threads(2)
    yield settings()
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(1)


def test_a_predictor_leaves_its_process_as_it_was(finished: Path, host: dict[str, Any]) -> None:
    for teachers in (False, True):
        predictor = Predictor.load(finished, teachers=teachers, compute=ComputeSpec(device="cpu", threads=1))
        assert settings() == host
        predictor("the game was great")
        assert settings() == host


def test_a_run_leaves_its_process_as_it_was(pipeline_file: Path, here: Path, host: dict[str, Any]) -> None:
    run_task(pipeline_file, here / "run", "teachers.seeds=[1]", "teachers.steps=1", "compute.threads=1", stages=("a",))
    assert settings() == host


def test_a_device_is_in_use_until_the_last_block_ends(host: dict[str, Any]) -> None:
    device, entered, leave = Device("cpu", "float32", 1), threading.Event(), threading.Event()

    def other_thread() -> None:
        with device.in_use():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other_thread)
    with device.in_use():
        thread.start()
        assert entered.wait(60) and torch.get_num_threads() == 1
        assert formats() == ["ieee"] * 4
    assert formats() == ["ieee"] * 4  # the other thread still computes
    leave.set()
    thread.join()
    assert settings() == host


def test_the_command_line_removes_what_chooses_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", HOSTILE | HARMLESS)
    clear_environment()
    caches = {"LRU_CACHE_CAPACITY": "32", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}
    assert os.environ == HARMLESS | caches | {"GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_the_command_line_leaves_a_choice_of_how_threads_wait(chosen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(chosen))
    clear_environment()
    assert {name: value for name, value in os.environ.items() if "OMP" in name} == chosen


def test_it_does_so_before_libraries_are_imported() -> None:
    check = "import sys, petkit.__main__; print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.slow
def test_a_hostile_environment_gives_the_same_bytes(pipeline_file: Path, here: Path) -> None:
    quick = ("teachers.seeds=[1]", "teachers.steps=3", "student.steps=5", "baselines=[tfidf]", "compute.threads=2")
    overrides = [part for setting in quick for part in ("--set", setting)]
    printed = []
    for name, more in (("plain", {}), ("hostile", HOSTILE | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"})):
        for command in (["run", pipeline_file, "--out", name, *overrides], ["predict", name, "the game was great"]):
            done = subprocess.run(
                [sys.executable, "-m", "petkit", *map(str, command)], env={**os.environ, **more}, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert products(here / "plain") == products(here / "hostile")
