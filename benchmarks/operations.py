"""How many floating-point operations the steps of a pipeline take: exact, whatever else the machine does.

    python benchmarks/operations.py examples/support-tickets/pipeline.yaml [--set key=value] [--json]

Counts the matrix products of every model, forwards and backwards, as torch's counter does, and those inside of attention, which
that counter takes for nothing on processors: two products of ``(length, head)`` by ``(head, length)`` size per head. The run goes
into a temporary folder and is thrown away. Counting makes small models up to twice as slow.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

import petkit
from petkit.events import Event, StepFinished, StepStarted

_aten = torch.ops.aten
STAGES = {
    "stage_a": "teachers",
    "stage_b": "soft labels",
    "stage_c": "student",
    "evaluation": "evaluation",
    "baselines": "baselines",
}


def counter() -> FlopCounterMode:
    """Return a counter to use as a context; ``get_total_flops()`` of it is the number of operations."""

    def forward(query: Any, key: Any, value: Any, *more: Any, **options: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    def backward(gradient: Any, query: Any, key: Any, value: Any, *more: Any, **options: Any) -> int:
        return int(sdpa_backward_flop_count(gradient, query, key, value))

    mapping = {
        _aten._scaled_dot_product_flash_attention_for_cpu: forward,
        _aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=mapping)


def count(pipeline: str, overrides: Sequence[str], folder: str) -> dict[str, int]:
    """Run a pipeline and return the operations of each stage; label logits of stage A are ``scoring``."""
    found: dict[str, int] = defaultdict(int)
    counting, before = counter(), 0

    def heard(event: Event) -> None:
        nonlocal before
        if isinstance(event, StepStarted):
            before = counting.get_total_flops()
        elif isinstance(event, StepFinished):
            stage = "scoring" if event.step.endswith("/logits") else STAGES[event.step.split("/")[0]]
            found[stage] += counting.get_total_flops() - before

    with counting:
        petkit.run(pipeline, out=folder, overrides=overrides, on_event=heard)
    return dict(found)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = count(options.pipeline, options.overrides, f"{folder}/run")
    found["all"] = sum(found.values())
    if options.json:
        print(json.dumps(found))
        return
    for stage, operations in found.items():
        print(f"{stage:12} {operations / 1e12:10.3f} · 10^12")


if __name__ == "__main__":
    main()
