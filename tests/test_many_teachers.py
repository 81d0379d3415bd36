"""Twelve teachers with adapters beside one: memory and disk, measured on the embedded model in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PIPELINE = Path(__file__).resolve().parents[1] / "examples" / "support-tickets" / "pipeline.yaml"
TRAIN = PIPELINE.parent / "data" / "train.jsonl"
SETTINGS = ("teachers.adapter=lora", "teachers.steps=2", "compute.threads=1")
ONE = ("teachers.seeds=[1]", 'patterns=[{id: forward, text: "{text} Please forward this to the {mask} team."}]')
TWELVE = ("teachers.seeds=[1, 2, 3]",)  # of four patterns
# Stage A, and the peak memory of the process before and after it, in MiB.
SCRIPT = """
import json, resource, sys
import torch
from petkit.config.loader import load_pipeline
from petkit.stages.pipeline import prepare, run
pipeline_file, folder, *overrides = sys.argv[1:]
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
before = peak()
run(prepare(load_pipeline(pipeline_file, overrides), folder, stages=("a",)))
print(json.dumps([before, peak()]))
"""


def measured(folder: Path, *overrides: str) -> tuple[float, float, int]:
    """Return the peak memory of a stage A before and after, in MiB, and the bytes of its teachers."""
    unlabeled = folder.with_suffix(".jsonl")
    unlabeled.write_text("".join(TRAIN.read_text(encoding="utf-8").splitlines(keepends=True)[:8]), encoding="utf-8")
    command = [
        sys.executable,
        "-P",
        "-c",
        SCRIPT,
        str(PIPELINE),
        str(folder),
        *SETTINGS,
        f"data.unlabeled={unlabeled}",
        *overrides,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, after = json.loads(done.stdout.splitlines()[-1])
    files = [path for model in (folder / "stage_a").glob("*/model") for path in model.rglob("*") if path.is_file()]
    return before, after, sum(path.stat().st_size for path in files)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in other units elsewhere")
def test_twelve_teachers_take_the_memory_and_hardly_more_disk_than_one(tmp_path: Path) -> None:
    before, one, disk_of_one = measured(tmp_path / "one", *ONE)
    also_before, twelve, disk = measured(tmp_path / "twelve", *TWELVE)

    assert len(list((tmp_path / "twelve" / "stage_a").glob("*/model"))) == 12
    # Without what Python and its libraries take, which would hide a second copy of the model (87 MiB).
    assert twelve - also_before <= 1.15 * (one - before), (before, one, also_before, twelve)
    assert disk_of_one < 400_000  # rank 8 of query and value in twelve layers, and three small files
    assert disk <= 12 * disk_of_one * 1.01  # no teacher carries the base
