"""The benchmark of bad input: what it does to rows and patterns, and that finished runs are not made again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from petkit.config.loader import load_pipeline
from tests.benchmark import BENCHMARKS, benchmark

ROWS = [{"text": f"{label} {number}", "label": label} for label in ("b", "a", "c") for number in range(8)]


@pytest.fixture
def robustness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module, next to the one it builds on."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark("fewshot")
    return benchmark("robustness")


def test_rows_per_label(robustness: ModuleType) -> None:
    rare = robustness.per_label(ROWS, [8, 2])
    assert Counter(row["label"] for row in rare) == {"a": 8, "b": 2, "c": 8}
    assert [row["text"] for row in rare if row["label"] == "b"] == ["b 0", "b 1"]


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 0), (1 / 8, 3), (1 / 5, 5)])
def test_wrong_labels(share: float, wrong: int, robustness: ModuleType) -> None:
    changed = robustness.with_wrong_labels(ROWS, share)
    assert [row["text"] for row in changed] == [row["text"] for row in ROWS]
    assert sum(row["label"] != row["text"][0] for row in changed) == wrong
    assert {row["label"] for row in changed} == {"a", "b", "c"} and changed == robustness.with_wrong_labels(ROWS, share)


@pytest.mark.parametrize("condition", ["as they are", "two bad patterns more", "2 rows per label", "100 unlabelled rows"])
def test_what_a_run_gets(condition: str, robustness: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = here / "sst2"
    folder.mkdir()
    rows = [{"text": f"{label} {number}", "label": label} for label in ("positive", "negative") for number in range(8)]
    for name, many in (("train_k8_s0", rows), ("train_k8_s1", rows[:3]), ("unlabeled", rows * 20)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    (here / "ag_news").mkdir()
    monkeypatch.setenv("PETKIT_BENCH_DATA", str(here))
    seen: dict[str, Any] = {}

    def run(pipeline: Path, overrides: list[str], folder: Path) -> dict[str, float]:
        spec = load_pipeline(pipeline, overrides).spec
        seen["patterns"] = [pattern.id for pattern in spec.patterns]
        seen["rows"] = [len(Path(str(part)).read_text().splitlines()) for part in (spec.data.train, spec.data.unlabeled)]
        return {"accuracy": 0.5, "ensemble": 0.75}

    monkeypatch.setattr(sys.modules["fewshot"], "run_petkit", run)
    measured = robustness.measure("sst2", 0, condition, 1)
    assert measured == {"task": "sst2", "draw": 0, "condition": condition, "student": 0.5, "ensemble": 0.75}
    assert seen["rows"] == [4 if condition == "2 rows per label" else 16, 100 if condition == "100 unlabelled rows" else 320]
    assert ({"weather", "end"} <= set(seen["patterns"])) == (condition == "two bad patterns more")


def test_finished_runs_are_shown_and_not_made_again(
    robustness: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = here / "results.jsonl"
    done = {"task": "trec", "draw": 0, "condition": "as they are", "student": 0.8, "ensemble": 0.7}
    results.write_text(json.dumps(done) + "\n")
    made: list[Any] = []

    def in_a_process(cell: tuple[str, int, str], options: Any) -> dict[str, Any]:
        made.append(cell)
        return {**done, "condition": cell[2], "student": 0.5}

    monkeypatch.setattr(robustness, "_in_a_process", in_a_process)
    options = ["--tasks", "trec", "--conditions", "as they are", "4 rows per label", "--results", str(results)]
    monkeypatch.setattr(sys, "argv", ["robustness.py", *options])
    robustness.main()
    robustness.main()
    assert made == [("trec", 0, "4 rows per label")]
    assert capsys.readouterr().out.splitlines()[-2:] == ["| as they are | 70.0, 80.0 |", "| 4 rows per label | 70.0, 50.0 |"]
