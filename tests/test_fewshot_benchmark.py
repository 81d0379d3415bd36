"""The benchmark of accuracy against time: its rows, its results, its table, and one cell of each kind on a small task."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from petkit.engine.device import Device
from petkit.task import checks
from petkit.task.task import Task
from tests.benchmark import BENCHMARKS, benchmark
from tests.tiny_task import load, rows, write_rows

TOPICS = {"Sports": "Sports", "Science": "Sci/Tech", "World": "World"}


@pytest.fixture
def fewshot(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module, next to the one it counts with."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return benchmark("fewshot")


@pytest.fixture
def data(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small AG's News: two draws, which share a row, and unlabelled and test rows."""
    folder = here / "ag_news"
    folder.mkdir()
    for name, count, seed in (("train_k8_s0", 12, 0), ("train_k8_s1", 12, 1), ("test", 9, 2), ("unlabeled", 20, 3)):
        written = [{"text": row["text"], "label": TOPICS[row["label"]]} for row in rows(count, seed)]
        write_rows(folder / f"{name}.jsonl", [*written[:-1], {"text": "market news", "label": "Business"}])
    monkeypatch.setenv("PETKIT_BENCH_DATA", str(here))
    return here


def row(task: str, draw: int, method: str, accuracy: float, **more: Any) -> dict[str, Any]:
    facts = {"ensemble": None, "seconds": 2.0, "operations": 3e12, "threads": 1, "finished": "2026-11-30T12:00:00+0000"}
    cell = {"task": task, "per_label": 8, "draw": draw, "method": method, "rows": "test", "settings": ""}
    return {**cell, "accuracy": accuracy, **facts, **more}


def test_development_rows_are_those_of_other_draws(fewshot: ModuleType, data: Path) -> None:
    cell = fewshot.Cell("ag_news", 8, 0, "majority", "development")
    files = cell.files(data, data)
    learnt, other = (set((data / "ag_news" / f"train_k8_s{draw}.jsonl").read_text().splitlines()) for draw in (0, 1))
    assert files["train"] == data / "ag_news" / "train_k8_s0.jsonl"
    assert set(files["test"].read_text().splitlines()) == other - learnt and len(other & learnt) >= 1
    assert fewshot.Cell("ag_news", 8, 0, "majority", "test").files(data, data)["test"] == data / "ag_news" / "test.jsonl"


def test_results_are_kept_line_by_line(fewshot: ModuleType, here: Path) -> None:
    path = here / "new" / "results.parquet"
    assert fewshot.read(path) == []
    for line in (row("trec", 0, "probe", 0.5), row("trec", 1, "default", 0.6, ensemble=0.7)):
        fewshot._add(path, line)
    assert [(line["accuracy"], line["ensemble"]) for line in fewshot.read(path)] == [(0.5, None), (0.6, 0.7)]
    finished = fewshot._finished(path)
    assert (
        fewshot.Cell("trec", 8, 1, "default", "test") in finished and fewshot.Cell("trec", 8, 1, "probe", "test") not in finished
    )


def test_results_of_earlier_defaults_and_other_encoders_are_not_mixed_with_others(
    fewshot: ModuleType, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = fewshot.settings_of("ag_news", "default", "")
    others = [("ag_news", "default, no descriptions"), ("trec", "default"), ("ag_news", "supervised"), ("ag_news", "zero_shot")]
    assert len({now, *(fewshot.settings_of(task, method, "") for task, method in others)}) == 5
    assert fewshot.settings_of("ag_news", "majority", "") == fewshot.settings_of("trec", "probe", "") == ""
    lines = [
        row("ag_news", 0, "default", 0.5, settings="of earlier defaults"),
        row("ag_news", 0, "default", 0.7, settings=now),
        row("ag_news", 0, fewshot.ENCODED, 0.8, settings="encoders/one"),
        row("ag_news", 0, fewshot.ENCODED, 0.6, settings="encoders/two"),
        row("ag_news", 0, "a configuration of earlier", 0.9),
    ]
    for line in lines:
        fewshot._add(here / "results.parquet", line)
    shared = ["fewshot.py", "--results", str(here / "results.parquet"), "--tasks", "ag_news", "--draws", "0"]
    shared += ["--methods", "default", fewshot.ENCODED]
    for options, shown in ((["--encoder", "encoders/two"], ["70.0", "60.0"]), ([], ["70.0"])):
        monkeypatch.setattr(sys, "argv", [*shared, "--table", *options])
        fewshot.main()
        printed = capsys.readouterr().out.splitlines()
        assert [line.split(" | ")[1] for line in printed[2:]] == shown


def test_what_auto_stands_for_counts_as_a_setting(fewshot: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fewshot.settings_of("trec", "default", "")
    fewshot.settings_of.cache_clear()
    monkeypatch.setattr(checks, "PASSES", 1)
    assert fewshot.settings_of("trec", "default", "") != before
    fewshot.settings_of.cache_clear()


def test_configurations_about_descriptions_need_some(fewshot: ModuleType) -> None:
    assert set(fewshot.ABOUT_DESCRIPTIONS) < set(fewshot.CONFIGURATIONS)
    assert fewshot._is_there("trec", "default, no descriptions") and not fewshot._is_there("sick", "default, no descriptions")
    assert fewshot._is_there("sick", "default") and fewshot._is_there("sick", "nothing labelled, nothing described")


def test_a_sentence_encoder_is_asked_for(
    fewshot: ModuleType, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--results", str(here / "results.parquet"), "--tasks", "ag_news", "--methods", fewshot.ENCODED]
    monkeypatch.setattr(sys, "argv", ["fewshot.py", *options])
    fewshot.main()
    assert "--encoder names no folder" in capsys.readouterr().err


def test_a_sentence_encoder_is_measured(fewshot: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third of nine rows is the first label; SetFit itself has a test of its own."""
    asked: list[Path] = []

    def answer(folder: Path, task: Task, device: Device) -> tuple[Any, dict[str, Any]]:
        asked.append(folder)
        return np.eye(4)[[task.labels.index("Sports")] * 9], {}

    monkeypatch.setattr("petkit.baselines.setfit.setfit_answer", answer)
    measured = fewshot.measure(fewshot.Cell("ag_news", 8, 0, fewshot.ENCODED, "test"), 1, "encoders/one")
    assert asked == [Path("encoders/one")] and measured["accuracy"] == pytest.approx(1 / 3)


def test_the_table(fewshot: ModuleType) -> None:
    lines = [row("trec", draw, "probe", 0.5 + draw / 10) for draw in (0, 1)] + [row("sst2", 0, "probe", 0.8, seconds=4.0)]
    lines += [row("trec", 0, "tfidf", 0.25)]
    assert list(fewshot.table(lines, ["probe", "tfidf", "majority"])) == [
        "| method | sst2 | trec | mean | seconds | 10^12 operations |",
        "|---|---|---|---|---|---|",
        "| probe | 80.0 | 55.0 ± 7.1 (2) | 67.5 | 3.0 | 3.0 |",
        "| tfidf | – | 25.0 | – | – | – |",
    ]


def test_the_plot(fewshot: ModuleType, here: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [row("trec", 0, "probe", 0.5), row("trec", 0, "default", 0.7), row("trec", 0, "tfidf", 0.3)]
    for name in ("one.svg", "two.svg"):
        fewshot.plot(lines, ["default", "probe"], here / name)
    assert (here / "one.svg").read_bytes() == (here / "two.svg").read_bytes()
    drawn = (here / "one.svg").read_text()
    assert "<!-- default -->" in drawn and "<!-- tfidf -->" not in drawn


def test_every_configuration_is_one(fewshot: ModuleType, pipeline_file: Path) -> None:
    pieces = {name: piece.overrides for name, piece in benchmark("ablations").PIECES.items()}
    for overrides in {**fewshot.CONFIGURATIONS, **pieces}.values():
        assert load(pipeline_file, *(override.replace("{adapted}", "embedded") for override in overrides)).spec


@pytest.mark.parametrize("method", ["majority", "tfidf"])
def test_a_method_without_operations(method: str, fewshot: ModuleType, data: Path) -> None:
    measured = fewshot.measure(fewshot.Cell("ag_news", 8, 0, method, "test"), 1)
    assert 0 <= measured["accuracy"] <= 1 and measured["operations"] == 0 and measured["ensemble"] is None
    assert measured["seconds"] > 0 and set(measured) == set(fewshot.SCHEMA.names)


@pytest.mark.slow
def test_cells_are_processes_and_done_once(
    fewshot: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of the benchmark has a configuration of its own, in its processes too."""
    root = data / "copy"
    for folder in ("benchmarks", "pipelines", "patterns", "verbalizers"):
        shutil.copytree(BENCHMARKS.parent / folder, root / folder)
    script = root / "benchmarks" / "fewshot.py"
    quick = '"quick": ["teachers.seeds=[1]", "teachers.steps=1", "student.steps=1", "keep_patterns=1"],\n}\nABOUT'
    script.write_text(script.read_text().replace("}\nABOUT", quick))
    monkeypatch.setattr(fewshot, "__file__", str(script))
    options = argparse.Namespace(results=data / "results.parquet", threads=1, jobs=2, encoder="")
    cells = [fewshot.Cell("ag_news", 8, 0, method, "test") for method in ("quick", "probe")]
    fewshot._run([*cells, fewshot.Cell("ag_news", 8, 7, "quick", "test")], options)
    found = fewshot.read(options.results)
    assert {(line["method"], line["draw"]) for line in found} == {(cell.method, cell.draw) for cell in cells}
    assert all(line["operations"] > 0 for line in found)
    assert {line["ensemble"] is None for line in found if line["method"] == "quick"} == {False}
    assert "draw=7" in capsys.readouterr().err  # the draw that does not exist failed, and is reported


def test_without_the_data_it_says_so(fewshot: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PETKIT_BENCH_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["fewshot.py", "--methods", "majority"])
    with pytest.raises(SystemExit, match="set PETKIT_BENCH_DATA"):
        fewshot.main()
