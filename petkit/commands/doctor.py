"""``petkit doctor``: a check of the installation, and the speed of this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from petkit.config.schema.pipeline import ComputeSpec
from petkit.engine.device import Device, choose_device, inference, prepare_for_inference
from petkit.errors import PetkitError
from petkit.models.batch import collate
from petkit.models.label_scorers import WordScorer
from petkit.models.loading import EMBEDDED, embedded_folder, load_masked_lm, load_tokenizer
from petkit.prompts.pattern import Encoded
from petkit.runs.provenance import machine, package_versions

_OPTIONAL = ("peft", "bitsandbytes", "sentencepiece")  # what some models and adapters need


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    healthy: bool
    value: str


def examine() -> list[Finding]:
    """Look at versions, processor and devices, check the embedded model and run it once."""
    versions = package_versions() | {name: _version(name) for name in ("scipy", "sentencepiece")}
    findings = [Finding(name, found != "missing" or name in _OPTIONAL, found) for name, found in versions.items()]
    findings += [Finding(name, True, str(value)) for name, value in machine().items()]
    device = choose_device(ComputeSpec())
    findings += [Finding("device", True, device.name), Finding("threads", True, str(device.threads))]
    with device.in_use():
        rates = {str(dtype).removeprefix("torch."): _gigaflops(dtype, device.name) for dtype in (torch.float32, torch.bfloat16)}
    findings += [
        Finding(f"matrix product, {name}", True, f"{rate:,.0f} GFLOP/s" if rate >= 10 else f"{rate:.2g} GFLOP/s")
        for name, rate in rates.items()
    ]
    findings.append(Finding("precision chosen", True, device.precision))
    try:
        folder = embedded_folder()
        findings.append(Finding("embedded model", True, f"{folder.name}, checksums match"))
        word = _fill_in(device)
        findings.append(Finding("forward pass", word == "paris", f"'Paris is the capital of France.' → {word!r}"))
    except PetkitError as error:
        findings.append(Finding("embedded model", False, str(error)))
    return findings


def _version(package: str) -> str:
    """Return the installed version of a package, or ``missing``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _fill_in(device: Device) -> str:
    """Return the embedded model's word in a sentence, read with the head that teachers use."""
    words = ["london", "paris", "bread", "monday"]
    tokenizer = load_tokenizer(EMBEDDED)
    ids = tokenizer.hf.convert_tokens_to_ids(words)
    scorer = WordScorer(load_masked_lm(EMBEDDED), [[[token]] for token in ids])
    prepare_for_inference(scorer, device)
    text = np.array(tokenizer.hf(f"{tokenizer.hf.mask_token} is the capital of France.")["input_ids"], np.int32)
    row = Encoded(text, len(text), int(np.flatnonzero(text == tokenizer.mask_id)[0]))
    with device.in_use(), inference(device):
        logits = scorer(collate([row], tokenizer).to(device.name))
    return words[int(logits.argmax())]


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


def _gigaflops(dtype: torch.dtype, device: str) -> float:
    rows, inner, columns = 1024, 384, 1536
    return 2 * rows * inner * columns / matmul_seconds(dtype, device, rows=rows, inner=inner, columns=columns, repeats=3) / 1e9
