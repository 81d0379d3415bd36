"""The benchmark of large unlabelled sets, kept alive on a small one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmark import BENCHMARKS, benchmark

SCRIPT = BENCHMARKS / "scale.py"


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    """The benchmark as a module."""
    return benchmark("scale")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell a process's peak")
def test_the_benchmark_runs_every_stage(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--rows",
        "30",
        "--steps",
        "2",
        "--teachers",
        "1",
        "--json",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    before, _, last = done.stdout.rstrip("\n").rpartition("\n")
    measured = json.loads(before)["measured"]
    assert [(entry["stage"], entry["rows"]) for entry in measured] == [(f"stage-{stage}", 30) for stage in "abc"]
    assert all(entry["seconds"] > entry["cpu_seconds"] * 0.2 > 0.01 and 100 < entry["peak_mib"] < 5000 for entry in measured)
    assert last == "+0.0 %" and not list(tmp_path.iterdir())


def test_every_row_is_labelled(scale: ModuleType, tmp_path: Path) -> None:
    pipeline = scale.make_task(tmp_path / "task", tmp_path, 30, 2, 1)
    assert json.loads(pipeline.read_text())["soft_labels"] == {"rows": "all"}


def test_growth(scale: ModuleType) -> None:
    found = [scale.Measured("stage-b", 10, 9.0, 1.0, 100.0), scale.Measured("stage-b", 110, 9.0, 3.0, 110.0)]
    found += [scale.Measured("stage-c", 10, 9.0, 5.0, 200.0), scale.Measured("stage-c", 110, 9.0, 5.0, 240.0)]

    (step,) = scale.growth(found, "stage-b")
    assert step == {"from": 10, "to": 110, "peak": pytest.approx(1.1), "cpu_microseconds_per_further_row": pytest.approx(20_000)}
    assert scale.peak_growth(found, ("stage-b", "stage-c")) == pytest.approx(0.2)


def test_rows_are_made_up_the_same_every_time(scale: ModuleType, tmp_path: Path) -> None:
    first, again = (scale.make_task(tmp_path / name, Path("model"), 50, 1, 2).parent / "unlabeled.jsonl" for name in "ab")

    assert first.read_bytes() == again.read_bytes()
    rows = [json.loads(line) for line in first.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 50 and all(3 <= len(row["text"].split()) <= 9 for row in rows)
